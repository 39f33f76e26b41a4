//! The steps of the story. Each does what a user would do and fails when the answer is another than it must be.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::Told;
use super::ask::{curl, current, expect, next_revision, shown, wait_for, why};
use crate::command::this_program;
use crate::lab::running::Running;
use crate::lab::terrain::{PLAIN, RECOGNITION};

type Step = fn(&Running) -> anyhow::Result<Told>;

const V1: &str = "vehicle-recognition-v1";
const V2: &str = "vehicle-recognition-v2";
const TAG: &str = "x-user-tag: canary-user";

/// Two mistakes: in the name of a field, and in a value.
const BROKEN: &str = "\
apiVersion: weir.dev/v1
kind: RouteRule
metadata: {name: broken}
spec:
  match:
    haeders: {}
  route:
    destination: {host: service-canary, port: 99999}
";

const CALLERS: &str = include_str!("../../../../../k3s/examples/recognition-callers.yaml");

/// In order.
pub(super) const ALL: [(&str, Step); 12] = [
    ("a request goes to the version in use", to_the_version_in_use),
    ("the same request with the canary's header goes to the new version", to_the_canary),
    ("IPv6 as well", over_ipv6),
    ("a recognition is mirrored: the new version gets a copy, the client never sees its answer", mirrored),
    ("a gradual split is sticky: the same user always gets the same version", sticky),
    ("a service that no rule concerns stays in the kernel", plain_stays_in_the_kernel),
    ("a pod outside the mesh is left alone", outside_is_left_alone),
    ("a change of a rule is in force at once", change),
    ("a policy says who may reach the recognition: strangers are dropped in the kernel", policy),
    ("a broken rule changes nothing, and everything wrong with it is told", broken),
    ("back to the first version", rollback),
    ("everything was counted", counted),
];

/// A command of this program for the lab's node, as a user would type it.
fn node_command(running: &Running, words: &str) -> String {
    format!("{} node -- {} {words}", running.exec, this_program())
}

fn url(path: &str) -> String {
    format!("http://{}{path}", RECOGNITION[0])
}

fn to_the_version_in_use(running: &Running) -> anyhow::Result<Told> {
    let url = url("/");
    let saw = expect(&curl(running, "client", &[&url])?, V1)?;
    Ok(Told { command: shown(running, "client", &[&url]), saw, why: why(running, &url, "GET", &[])? })
}

fn to_the_canary(running: &Running) -> anyhow::Result<Told> {
    tagged(running, &url("/"), TAG, V2)
}

fn over_ipv6(running: &Running) -> anyhow::Result<Told> {
    tagged(running, &format!("http://[{}]/", RECOGNITION[1]), TAG, V2)
}

/// A request with a header must be answered by this server.
fn tagged(running: &Running, url: &str, header: &str, server: &str) -> anyhow::Result<Told> {
    let arguments = [url, "-H", header];
    let saw = expect(&curl(running, "client", &arguments)?, server)?;
    Ok(Told { command: shown(running, "client", &arguments), saw, why: why(running, url, "GET", &[header])? })
}

fn mirrored(running: &Running) -> anyhow::Result<Told> {
    let url = url("/recognize");
    let arguments = [&*url, "--data", "a picture of a car"];
    let answer = curl(running, "client", &arguments)?;
    let saw = expect(&answer, V1)?;
    let last = format!("http://{}:8080/last", running.lab.pod(V2)?.ip4());
    let (copy, _) = wait_for("the copy", || {
        let seen = curl(running, "node", &[&last])?;
        let requests = seen.body.as_array().cloned().unwrap_or_default();
        Ok(requests.into_iter().find(|request| request["headers"].get("x-weir-mirror").is_some()))
    })?;
    ensure!(copy["body_sha256"] == answer.body["body_sha256"], "the copy's body is another: {copy}");
    let saw = format!(
        "{saw}; {V2} got a copy marked x-weir-mirror: {}, {} bytes, the same SHA-256",
        copy["headers"]["x-weir-mirror"].as_str().unwrap_or_default(),
        copy["body_bytes"],
    );
    Ok(Told { command: shown(running, "client", &arguments), saw, why: why(running, &url, "POST", &[])? })
}

fn sticky(running: &Running) -> anyhow::Result<Told> {
    let url = url("/gradual");
    let server_of = |user: usize| {
        let header = format!("x-user-id: user-{user}");
        let answer = curl(running, "client", &[&url, "-H", &header])?;
        ensure!(answer.status == 200, "user-{user} got {}", answer.status);
        Ok(answer.server)
    };
    let first: Vec<String> = (0..20).map(server_of).collect::<anyhow::Result<_>>()?;
    let second: Vec<String> = (0..20).map(server_of).collect::<anyhow::Result<_>>()?;
    ensure!(first == second, "a user changed versions: {first:?} then {second:?}");
    let on_new = first.iter().filter(|server| *server == V2).count();
    ensure!(on_new > 0 && on_new < 20, "{on_new} of 20 users on the new version");
    let arguments = [&*url, "-H", "x-user-id: user-7"];
    let why = why(running, &url, "GET", &["x-user-id: user-7"])?;
    let saw = format!("{on_new} of 20 users are on the new version, and each stayed where it was");
    Ok(Told { command: shown(running, "client", &arguments), saw, why })
}

fn plain_stays_in_the_kernel(running: &Running) -> anyhow::Result<Told> {
    let url = format!("http://{}/", PLAIN[0]);
    let answer = curl(running, "client", &[&url])?;
    let saw = expect(&answer, "plain")?;
    let (peer, client) =
        (answer.body["peer"].as_str().unwrap_or_default(), running.lab.pod("client")?.ip4().to_string());
    ensure!(peer.starts_with(&format!("{client}:")), "the server sees {peer}, not the client's own address {client}");
    let why = why(running, &url, "GET", &[])?;
    Ok(Told {
        command: shown(running, "client", &[&url]),
        saw: format!("{saw}, which sees the client's own address {peer}"),
        why,
    })
}

fn outside_is_left_alone(running: &Running) -> anyhow::Result<Told> {
    let url = format!("http://{}:8080/", running.lab.pod(V1)?.ip4());
    let arguments = [&*url, "-H", TAG];
    let saw = expect(&curl(running, "outside", &arguments)?, V1)?;
    let why = "its pod says weir.dev/mesh: disabled; no program is attached to its link, and rules concern services, not pods";
    Ok(Told { command: shown(running, "outside", &arguments), saw, why: why.to_owned() })
}

fn change(running: &Running) -> anyhow::Result<Told> {
    let file = running.rules().join("user-header-canary.yaml");
    let before = current(running)?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    std::fs::write(&file, text.replace("canary-user", "tester"))?;
    let (now, took) = next_revision(running, &before)?;
    expect(&curl(running, "client", &[&url("/"), "-H", "x-user-tag: tester"])?, V2)?;
    expect(&curl(running, "client", &[&url("/"), "-H", TAG])?, V1)?;
    let saw = format!(
        "revision {} in force after {} ms; testers get the new version, canary users no longer",
        now["sequence"],
        took.as_millis()
    );
    let command = format!("sed -i s/canary-user/tester/ {}", file.display());
    Ok(Told { command, saw, why: changes(&now) })
}

/// The changes of a version, on one line.
fn changes(version: &Value) -> String {
    let changed = version["change_log"]["changed"].as_array().cloned().unwrap_or_default();
    let fields = changed.iter().flat_map(|object| {
        let name = object["object"]["name"].as_str().unwrap_or_default().to_owned();
        let fields = object["fields"].as_array().cloned().unwrap_or_default();
        fields.into_iter().map(move |field| {
            format!("{name} {}: {} -> {}", field["path"].as_str().unwrap_or_default(), field["from"], field["to"])
        })
    });
    fields.collect::<Vec<_>>().join(", ")
}

fn policy(running: &Running) -> anyhow::Result<Told> {
    let file = running.rules().join("recognition-callers.yaml");
    let before = current(running)?;
    std::fs::write(&file, CALLERS)?;
    let (in_force, _) = next_revision(running, &before)?;
    let direct = format!("http://{}:8080/", running.lab.pod(V1)?.ip4());
    for url in [&direct, &url("/")] {
        expect(&curl(running, "client", &[url])?, V1)?;
        ensure!(curl(running, "client", &[url, "-X", "DELETE"])?.status == 403, "{url}: DELETE is not refused");
    }
    let by_service = curl(running, "plain", &[&url("/")])?.status;
    ensure!(by_service == 403, "a stranger gets {by_service} by the service");
    ensure!(curl(running, "plain", &[&direct, "--max-time", "1"]).is_err(), "a stranger got through");
    let attempt = json!({ "from": "plain/plain", "to": V1, "port": 8080 });
    let access = running.node.json(http::Method::POST, "/api/v1/policy/explain", Some(&attempt))?;
    let (drop, _) = wait_for("the report of a drop", || {
        let page = running.node.json(http::Method::GET, "/api/v1/drops", None)?;
        let drops = page["drops"].as_array().cloned().unwrap_or_default();
        Ok(drops.into_iter().find(|drop| drop["by"] == json!("kernel") && drop["source_pod"] == json!("plain/plain")))
    })?;
    std::fs::remove_file(&file)?;
    next_revision(running, &in_force)?;
    expect(&curl(running, "plain", &[&direct])?, V1)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let saw = format!(
        "the client still gets 200, and 403 for a DELETE; {} was dropped ({}), and reaches it again without the policy",
        text(&drop["source_pod"]),
        text(&drop["reason"]),
    );
    let words = format!("policy explain plain/plain {V1} 8080");
    let why = format!(
        "{}: {}, said by the {}",
        text(&access["outcome"]),
        text(&access["reason"]),
        text(&access["decided_by"])
    );
    Ok(Told { command: node_command(running, &words), saw, why })
}

fn broken(running: &Running) -> anyhow::Result<Told> {
    let file = running.rules().join("broken.yaml");
    let before = current(running)?;
    std::fs::write(&file, BROKEN)?;
    let (diagnostics, _) = wait_for("the rejection", || {
        let status = running.node.json(http::Method::GET, "/api/v1/status", None)?;
        let rejected = status["rejected"]["diagnostics"].as_array().cloned().unwrap_or_default();
        Ok((!rejected.is_empty()).then_some(rejected))
    })?;
    let unchanged = current(running)?["sequence"] == before["sequence"];
    expect(&curl(running, "client", &[&url("/"), "-H", "x-user-tag: tester"])?, V2)?;
    ensure!(unchanged && diagnostics.len() == 2, "unchanged: {unchanged}, told: {}", Value::Array(diagnostics));
    std::fs::remove_file(&file)?;
    wait_for("the end of the rejection", || {
        let status = running.node.json(http::Method::GET, "/api/v1/status", None)?;
        Ok(status["rejected"].is_null().then_some(()))
    })?;
    let told: Vec<String> = diagnostics
        .iter()
        .map(|diagnostic| {
            let text = |field: &str| diagnostic[field].as_str().unwrap_or_default().to_owned();
            format!("line {} {}: {}", diagnostic["line"], text("field"), text("message"))
        })
        .collect();
    let saw = format!("revision {} stays in force and serves", before["sequence"]);
    let (broken, file) = (BROKEN.replace('\n', "\\n"), file.display());
    let command = format!("printf '{broken}' > {file}; {} check {file}; rm {file}", this_program());
    Ok(Told { command, saw, why: told.join("\n          ") })
}

fn rollback(running: &Running) -> anyhow::Result<Told> {
    let versions = running.node.json(http::Method::GET, "/api/v1/versions?limit=1000", None)?;
    let oldest = versions["versions"].as_array().and_then(|versions| versions.last()).context("no versions")?;
    let (sequence, id) = (oldest["sequence"].to_string(), oldest["version_id"].clone());
    let now = running.node.json(http::Method::POST, &format!("/api/v1/versions/{sequence}/rollback"), None)?;
    ensure!(now["version_id"] == id && now["sequence"] != oldest["sequence"], "the answer is {now}");
    expect(&curl(running, "client", &[&url("/"), "-H", TAG])?, V2)?;
    let saw = format!(
        "revision {} has the content of revision {sequence}; canary users get the new version again",
        now["sequence"]
    );
    // What the user opens next says what is in force; the same content makes no new version.
    let file = running.rules().join("user-header-canary.yaml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("tester", "canary-user"))?;
    Ok(Told { command: node_command(running, &format!("rollback {sequence}")), saw, why: changes(&now) })
}

fn counted(running: &Running) -> anyhow::Result<Told> {
    let status = running.node.json(http::Method::GET, "/api/v1/status", None)?;
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    let routes = status["routes"].as_array().cloned().unwrap_or_default();
    let requests: u64 = routes.iter().map(|route| count(&route["requests"])).sum();
    let copies: u64 = status["mirrors"].as_array().into_iter().flatten().map(|mirror| count(&mirror["sent"])).sum();
    let kernel = status["kernel"].as_array().cloned().unwrap_or_default();
    let steered = kernel.iter().find(|row| row["reason"] == json!("steered")).map_or(0, |row| count(&row["packets"]));
    ensure!(requests >= 48 && copies >= 1 && steered >= 1, "requests {requests}, copies {copies}, steered {steered}");
    let reasons: Vec<String> = kernel
        .iter()
        .filter(|row| count(&row["packets"]) > 0)
        .map(|row| format!("{} {}", row["reason"].as_str().unwrap_or_default(), row["packets"]))
        .collect();
    let saw = format!("{requests} requests by {} routes, {copies} mirrored", routes.len());
    Ok(Told {
        command: node_command(running, "status"),
        saw,
        why: format!("packets in the kernel: {}", reasons.join(", ")),
    })
}
