//! One pod that wants everything, another that gets what it needs, and what each has cost: through real links.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use weir_e2e::{RECOGNITION, Story, Terrain, until};
use weir_lab::client::{Connection, Request, connect};

const LIMIT: Duration = Duration::from_secs(10);

/// Connections from a pod, each with an answer, until one is reset.
fn open_until_refused(story: &Story, pod: &str) -> Vec<Connection> {
    let to = SocketAddr::new(RECOGNITION[0].parse().unwrap(), 80);
    let request = Request::new("GET", &format!("http://{}/", RECOGNITION[0])).unwrap();
    let mut open = Vec::new();
    loop {
        // The reset may come before the connection is made, as far as the pod can tell.
        let asked = connect(&story.lab, pod, to, LIMIT)
            .and_then(|mut connection| connection.exchange(&request, LIMIT).map(|response| (connection, response)));
        match asked {
            Ok((connection, response)) => {
                assert_eq!(response.status, 200);
                open.push(connection);
            }
            Err(error) => {
                let resets = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(error.io_kind().is_some_and(|kind| resets.contains(&kind)), "{error}");
                return open;
            }
        }
    }
}

fn row(story: &Story, workload: &str) -> Value {
    let status = story.admin.status();
    let rows = status["workloads"].as_array().unwrap();
    rows.iter().find(|row| row["workload"] == workload).cloned().unwrap_or_default()
}

#[test]
fn a_pod_that_opens_all_it_can_leaves_as_much_to_the_next() {
    let settings = json!({ "workers": 1, "proxy": { "downstream": { "maxConnections": 12 } } });
    let rule = "{services: [vehicle-recognition], timeouts: {request: 5s}}";
    let story = Story::begin(&Terrain::standard().rule("all", rule).settings(settings));
    let greedy = open_until_refused(&story, "client");
    let modest = open_until_refused(&story, "plain");
    assert_eq!((greedy.len(), modest.len()), (6, 3));
    for (workload, open) in [("default/client", 6), ("plain/plain", 3)] {
        let row = row(&story, workload);
        assert_eq!((&row["connections"], &row["requests"]), (&json!(open), &json!(open)), "{row}");
        assert_eq!(row["refused"], json!({ "connection": 1 }), "{row}");
        until("processor time", || {
            let row = self::row(&story, workload);
            if row["cpu_ms"].as_f64() > Some(0.0) { Ok(()) } else { Err(row.to_string()) }
        });
    }
    let text = String::from_utf8(story.weir(&["status"]).stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("default/client ")).unwrap_or_default();
    assert!(line.ends_with("connection 1"), "{text}");
    let labels = ["source_namespace=\"plain\"", "source=\"plain\"", "status=\"2xx\""];
    assert_eq!(story.admin.metric("weir_proxy_requests_total", &labels), 3.0);
}
