//! Plugins in a node: modules as other hosts run them, on real requests.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use weir_e2e::{Load, RECOGNITION, Story, Terrain, built_plugin, plugin, until};
use weir_lab::ServicePort;
use weir_lab::client::Request;

fn url(path: &str) -> String {
    format!("http://{}{path}", RECOGNITION[0])
}

const TO_CANARY: &str = "{services: [vehicle-recognition], match: {headers: {x-version: {exact: canary}}}, route: \
                         {destination: {host: service-canary, port: 8080}}}";

#[test]
fn a_plugin_decides_who_gets_the_canary() {
    let terrain = Terrain::standard().rule("canary", TO_CANARY).plugin("canary-by-cookie", "configuration: group=beta");
    let story = Story::begin(&terrain);
    for (headers, expected, version) in [
        (&["cookie: a=b; group=beta"][..], "200 v2", "canary"),
        (&["cookie: group=alpha"], "200 v1", "stable"),
        // Nobody outside can say what the plugin says.
        (&["x-version: canary"], "200 v1", "stable"),
    ] {
        let headers: Vec<_> = headers.iter().flat_map(|header| ["-H", header]).collect();
        let answer = story.curl("client", &[&headers[..], &[&url("/")]].concat());
        assert_eq!((&*answer.brief(), answer.header("x-version")), (expected, version), "{headers:?}");
    }
    for line in story.await_access("/", 3) {
        let spent = line["plugins"][0].as_str().unwrap_or_default();
        assert!(spent.starts_with("default/canary-by-cookie ") && spent.ends_with("us"), "{line}");
    }
}

#[test]
fn rules_match_what_a_plugin_says() {
    let rule = "{services: [vehicle-recognition], match: {plugin: {tier: {exact: gold}}}, route: {destination: {host: \
                service-canary, port: 8080}}}";
    let terrain = Terrain::standard().rule("gold", rule);
    let story = Story::begin(&terrain.plugin("probe", "configuration: 'request-headers put weir.match.tier iron'"));
    assert_eq!(story.get("client", &url("/"), &[]), "200 v1");
    story.apply("probe.yaml", &plugin("probe", "configuration: 'request-headers put weir.match.tier gold'"));
    assert_eq!(story.get("client", &url("/"), &[]), "200 v2");
    story
        .apply("probe.yaml", &plugin("probe", "configuration: 'request-headers put weir.route.destination shadow:80'"));
    assert_eq!(story.get("client", &url("/"), &[]), "200 shadow");
}

#[test]
fn a_rule_matches_what_plugins_of_several_languages_say() {
    let rule = "{services: [vehicle-recognition], match: {plugin: {by: {exact: gold}}}, route: {destination: {host: \
                service-canary, port: 8080}}}";
    let story = Story::begin(&Terrain::standard().rule("gold", rule));
    for language in ["language-assemblyscript", "language-cpp", "language-go"] {
        for (by, expected) in [("gold", "200 v2"), ("iron", "200 v1")] {
            story.apply("plugin.yaml", &plugin(language, &format!("configuration: {by}")));
            let answer = story.curl("client", &["-d", "body", &url("/")]);
            assert_eq!((&*answer.brief(), answer.header("x-path")), (expected, "/"), "{language}");
            assert_eq!(story.get("client", &url("/"), &["x-ask: refuse"]), "403 ", "{language}");
        }
    }
}

#[test]
fn what_a_plugin_costs_and_counts_is_told() {
    let script = "'request-headers count asked'";
    let story = Story::begin(&Terrain::standard().plugin("probe", &format!("configuration: {script}")));
    for _ in 0..10 {
        assert_eq!(story.get("client", &url("/"), &[]), "200 v1");
    }
    let named = ["plugin=\"default/probe\""];
    assert_eq!(story.admin.metric("weir_plugin_counter_total", &[named[0], "name=\"asked\""]), 10.0);
    assert_eq!(story.admin.metric("weir_plugin_failures_total", &[named[0], "kind=\"trap\""]), 0.0);
    assert!(story.admin.metric("weir_plugin_callback_duration_seconds_count", &named) >= 60.0);
    assert!(story.admin.metric("weir_plugin_memory_bytes", &named) > 65_536.0);
    let listed = story.weir_json(&["plugin", "list"]);
    let one = &listed[0];
    assert_eq!((&one["name"], &one["services"]), (&json!("default/probe"), &json!(["default/vehicle-recognition:80"])));
    assert_eq!((&one["traps"], &one["metrics"]["asked"]["value"]), (&json!(0), &json!(10)));
    assert_eq!(story.weir_json(&["plugin", "show", "probe"])["abi"], "0.2.1");
    let shown = String::from_utf8(story.weir(&["plugin", "list"]).stdout).unwrap();
    assert!(shown.contains("default/probe") && shown.lines().count() == 2, "{shown}");
}

#[test]
fn a_plugin_that_cannot_run_rejects_its_revision_and_says_where() {
    let story = Story::begin(&Terrain::standard().plugin("canary-by-cookie", "configuration: group=beta"));
    let broken = story.rules().join("broken.wasm");
    fs::write(&broken, b"no module").unwrap();
    let with = |module: &str, more: &str| {
        format!(
            "apiVersion: weir.dev/v1\nkind: Plugin\nmetadata: {{name: other}}\nspec:\n  module: {{{module}}}\n  services: \
             [vehicle-recognition]\n  {more}\n"
        )
    };
    let real = built_plugin("canary-by-cookie");
    let cases = [
        (with("file: broken.wasm", ""), 5, "it cannot be compiled"),
        (with("file: nowhere.wasm", ""), 5, "No such file or directory"),
        (with(&format!("file: {}, sha256: {}", real.display(), "0".repeat(64)), ""), 5, "but the module's is"),
        (with(&format!("file: {}", real.display()), "configuration: nonsense"), 7, "refuses its configuration"),
    ];
    for (document, line, expected) in cases {
        story.write("other.yaml", &document);
        until(expected, || {
            let rejected = story.admin.status()["rejected"]["diagnostics"].as_array().cloned().unwrap_or_default();
            let is_it = |one: &Value| one["message"].as_str().is_some_and(|text| text.contains(expected));
            match rejected.iter().find(|one| is_it(one)) {
                Some(one) if one["line"] == line && one["object"]["name"] == "other" => Ok(()),
                _ => Err(format!("{rejected:?}")),
            }
        });
        // The last good one keeps serving.
        assert_eq!(story.curl("client", &["-H", "cookie: group=beta", &url("/")]).header("x-version"), "canary");
    }
}

/// The module with one more section that means nothing: another module, that does the same.
fn marked(module: &[u8], mark: u8) -> Vec<u8> {
    let section = [&[0, 3, 1][..], b"m", &[mark]].concat();
    [module, &section].concat()
}

#[test]
fn plugins_are_swapped_under_load_without_losing_a_request() {
    const SWAPS: u32 = 200;
    let story = Story::begin(&Terrain::standard().plugin("probe", "configuration: 'response-headers set x-number 0'"));
    let module = fs::read(built_plugin("probe")).unwrap();
    let request = Request::new("GET", &url("/")).unwrap();
    let load = Load::start(&story.lab, "client", 4, &request, |response| {
        match (response.status, response.header("x-number")) {
            (200, Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    load.await_good(50);
    let mut before = 0;
    for number in 1..=SWAPS {
        // Every tenth time it is another module, which has to be compiled, and otherwise another configuration.
        let mark = u8::try_from(number / 10).unwrap();
        let name = format!("probe-{mark}.wasm");
        fs::write(story.folder().join(&name), marked(&module, mark)).unwrap();
        let document = plugin("probe", &format!("configuration: 'response-headers set x-number {number}'"));
        let document = document
            .replace(&built_plugin("probe").display().to_string(), &story.folder().join(name).display().to_string());
        story.apply("probe.yaml", &document);
        if number % 10 == 0 {
            let answer = story.curl("client", &[&url("/")]);
            assert_eq!(answer.header("x-number"), number.to_string(), "{}", answer.brief());
        }
        load.await_good(5);
        if number == SWAPS / 4 {
            before = story.allocated();
        }
    }
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report:?}");
    // Instances of earlier ones are gone, and what they took.
    until("one instance for each worker, and no more memory than before", || {
        let listed = story.weir_json(&["plugin", "list"]);
        let (count, instances) = (listed.as_array().map(Vec::len), listed[0]["instances"].as_u64());
        let now = story.allocated();
        if count == Some(1) && matches!(instances, Some(1..=8)) && now < before + (4 << 20) {
            return Ok(());
        }
        Err(format!("{listed}, {now} bytes after {before}"))
    });
    println!(
        "{SWAPS} swaps, {} requests, slowest {:?}: {before} bytes, then {}",
        report.good,
        report.slowest,
        story.allocated()
    );
}

/// A server in the node's namespace that has one module, and counts how often it was asked; without one it refuses.
struct Server {
    address: SocketAddr,
    count: Arc<AtomicUsize>,
    module: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Server {
    fn start(story: &Story) -> Self {
        let listener = story.lab.enter("node", || TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let (count, module) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None::<Vec<u8>>)));
        let (counted, served) = (Arc::clone(&count), Arc::clone(&module));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                counted.fetch_add(1, Ordering::SeqCst);
                let module = served.lock().unwrap().clone();
                let (status, body) = module.map_or(("503 Not Now", Vec::new()), |module| ("200 OK", module));
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            }
        });
        Self { address, count, module }
    }
}

#[test]
fn a_module_is_fetched_and_compiled_once_and_there_after_a_restart_without_its_server() {
    let mut story = Story::begin(&Terrain::standard());
    let server = Server::start(&story);
    let module = fs::read(built_plugin("canary-by-cookie")).unwrap();
    let file = built_plugin("canary-by-cookie").display().to_string();
    let sha256 = story.weir_json(&["plugin", "inspect", &file])["sha256"].as_str().unwrap().to_owned();
    let document = plugin("canary-by-cookie", "configuration: group=beta")
        .replace(&format!("file: {file}"), &format!("url: 'http://{}/a.wasm', sha256: {sha256}", server.address));
    story.write("fetched.yaml", &document);
    until("what cannot be had is said, and the last good revision serves", || {
        let rejected = story.admin.status()["rejected"]["diagnostics"].as_array().cloned().unwrap_or_default();
        match rejected.iter().find(|one| one["message"].as_str().is_some_and(|text| text.contains("503"))) {
            Some(one) if one["line"] == 5 => Ok(()),
            _ => Err(format!("{rejected:?}")),
        }
    });
    assert_eq!(story.get("client", &url("/"), &[]), "200 v1");
    // It comes back: nobody has to write the document again.
    *server.module.lock().unwrap() = Some(module);
    let state = |story: &Story| story.weir_json(&["plugin", "list"])[0].clone();
    until("it is in force", || match &state(&story)["state"] {
        Value::String(state) if state == "runs" => Ok(()),
        other => Err(other.to_string()),
    });
    let asked = || story.curl("client", &["-H", "cookie: group=beta", &url("/")]).header("x-version").to_owned();
    assert_eq!(asked(), "canary");
    assert_eq!((&state(&story)["from_cache"], &state(&story)["sha256"]), (&json!(false), &json!(sha256)));
    let count = server.count.load(Ordering::SeqCst);
    *server.module.lock().unwrap() = None;
    story.restart();
    until("it is in force again", || match &state(&story)["state"] {
        Value::String(state) if state == "runs" => Ok(()),
        other => Err(other.to_string()),
    });
    let asked = story.curl("client", &["-H", "cookie: group=beta", &url("/")]).header("x-version").to_owned();
    assert_eq!((&*asked, &state(&story)["from_cache"]), ("canary", &json!(true)));
    assert_eq!(server.count.load(Ordering::SeqCst), count, "it was fetched again");
}

#[test]
fn a_route_names_its_plugin() {
    let route = |plugin: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: api}}\nspec:\n  parentRefs: [{{group: \
             '', kind: Service, name: vehicle-recognition, port: 80}}]\n  rules:\n  - matches: [{{path: {{value: \
             /api}}}}]\n    filters: [{{type: ExtensionRef, extensionRef: {{group: weir.dev, kind: Plugin, name: \
             {plugin}}}}}]\n    backendRefs: [{{name: vehicle-recognition, port: 80}}]\n  - backendRefs: [{{name: \
             vehicle-recognition, port: 80}}]\n"
        )
    };
    let document = plugin("probe", "configuration: 'response-headers set x-seen yes'");
    let document = document.replace("  services: [vehicle-recognition]\n", "");
    let story = Story::begin(&Terrain::standard().file("probe.yaml", document).file("api.yaml", route("probe")));
    let seen = |path: &str| {
        let answer = story.curl("client", &[&url(path)]);
        (answer.brief(), answer.header("x-seen").to_owned())
    };
    assert_eq!(seen("/api/x"), ("200 v1".to_owned(), "yes".to_owned()));
    assert_eq!(seen("/other"), ("200 v1".to_owned(), String::new()));
    let explained = story.explain("client", &url("/api/x"), &[]);
    assert_eq!(explained["plugins"], json!(["default/probe, of the rule"]));
    let shown = story.weir_json(&["plugin", "show", "probe"]);
    assert_eq!((&shown["services"], &shown["rules"]), (&json!([]), &json!(["HTTPRoute default/api rules[0]"])));
    // One that there is not is not passed by.
    story.apply("api.yaml", &route("gone"));
    assert!(seen("/api/x").0.starts_with("500"), "{:?}", seen("/api/x"));
    assert_eq!(seen("/other").0, "200 v1");
}

/// A port that is not HTTP by its name is the kernel's business alone, until a plugin is for it.
#[test]
fn a_plugin_sees_connections_that_are_none_of_http() {
    let port = ServicePort { name: "mysql".to_owned(), port: 80, target_port: 8080, app_protocol: None };
    let story = Story::begin(&Terrain::standard().port("vehicle-recognition", &port));
    assert_eq!(story.get("client", &url("/"), &[]), "200 v1");
    assert_eq!(story.admin.connections("opaque"), 0);
    let tcp = |script: &str| plugin("probe", &format!("protocol: tcp\n  configuration: \"tcp\\n{script}\""));
    story.apply("probe.yaml", &tcp("upstream-data upper"));
    assert_eq!(story.get("client", &url("/"), &[]), "200 V1");
    assert_eq!(story.admin.connections("opaque"), 1);
    story.apply("probe.yaml", &tcp("new-connection close"));
    assert!(!story.get("client", &url("/"), &[]).contains("200"));
    assert!(story.admin.connections("opaque_stopped") >= 1);
    story.remove("probe.yaml");
    assert_eq!(story.get("client", &url("/"), &[]), "200 v1");
}

#[test]
fn a_plugin_is_tried_out_beside_the_one_in_force() {
    let more = "configuration: 'response-headers set x-seen old'\n  shadow: {configuration: 'response-headers set x-seen new'}";
    let story = Story::begin(&Terrain::standard().plugin("probe", more));
    for _ in 0..5 {
        assert_eq!(story.curl("client", &[&url("/a?b")]).header("x-seen"), "old");
    }
    let shown = story.weir_json(&["plugin", "show", "probe"]);
    let comparison = &shown["shadow"]["comparison"];
    assert_eq!((&comparison["same"], &comparison["different"]), (&json!(0), &json!(5)), "{shown}");
    assert_eq!(comparison["last"][0]["request"], "GET /a?b");
    assert_eq!(comparison["last"][0]["what"], "the response: x-seen is \"old\", and not \"new\"");
    let labels = ["plugin=\"default/probe (shadow)\"", "result=\"different\""];
    assert_eq!(story.admin.metric("weir_plugin_shadow_requests_total", &labels), 5.0);
    let text = String::from_utf8(story.weir(&["plugin", "show", "probe"]).stdout).unwrap();
    assert!(text.contains("0 requests the same, 5 different"), "{text}");
}

/// What an author does, from nothing: the commands of the guide.
#[test]
fn a_plugin_is_begun_built_tested_and_measured() {
    let story = Story::begin(&Terrain::standard());
    let folder = story.folder().display().to_string();
    let weir = |arguments: &[&str]| {
        let output = story.weir(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    weir(&["plugin", "new", "mine", "--folder", &folder]);
    let plugin = format!("{folder}/mine");
    // What the plugins of this project were built with is there, and nothing else is needed.
    let built = format!("{}/build", built_plugin("probe").parent().unwrap().display());
    weir(&["plugin", "build", &plugin, "--target-dir", &built]);
    let tested = weir(&["plugin", "test", &plugin]);
    assert!(tested.ends_with("4 cases passed, 0 failed\n"), "{tested}");
    let module = format!("{plugin}/mine.wasm");
    let inspected = weir(&["plugin", "inspect", &module, "--output", "json"]);
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!((&inspected["abi"], &inspected["runs"]), (&json!("0.2.1"), &json!(true)));
    let measured = weir(&["plugin", "bench", &module, "--requests", "100", "--output", "json"]);
    let measured: Value = serde_json::from_str(&measured).unwrap();
    assert!(measured["exchange_us"].as_f64().is_some_and(|time| time > 0.0), "{measured}");
    // And a test that finds something says what.
    let table = fs::read_to_string(format!("{plugin}/tests.yaml")).unwrap();
    fs::write(format!("{plugin}/tests.yaml"), table.replace("{x-plugin: null}", "{x-plugin: other}")).unwrap();
    let output = story.weir(&["plugin", "test", &plugin]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        !output.status.success() && said.contains("the response's header x-plugin is [], and not [\"other\"]"),
        "{said}"
    );
    // It runs in the node as well.
    let document = crate::plugins::plugin("probe", "").replace(&built_plugin("probe").display().to_string(), &module);
    story.apply("mine.yaml", &document);
    assert_eq!(story.curl("client", &["-H", "x-debug: 1", &url("/")]).header("x-plugin"), "mine");
}
