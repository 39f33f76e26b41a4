//! Plugins in a node: modules as other hosts run them, on real requests.

use weir_e2e::{RECOGNITION, Story, Terrain};

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
