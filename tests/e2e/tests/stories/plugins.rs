//! Plugins in a node: modules as other hosts run them, on real requests.

use std::fs;

use serde_json::{Value, json};
use weir_e2e::{Load, RECOGNITION, Story, Terrain, built_plugin, plugin, until};
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
        (with(&format!("file: {}, sha256: {}", real.display(), "0".repeat(64)), ""), 5, "but the file's is"),
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
