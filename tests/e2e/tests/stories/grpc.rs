//! gRPC through interception and `GRPCRoute`s: a caller and servers of C-core, of which none knows of Weir.

use serde_json::{Value, json};
use weir_e2e::{CANARY, GrpcClient, GrpcServer, RECOGNITION, Story, Terrain};
use weir_lab::ServicePort;

const V1: &str = "backendRefs: [{name: vehicle-recognition, port: 80}]";
const V2: &str = "backendRefs: [{name: service-canary, port: 8080}]";

/// A route of `vehicle-recognition` with these rules, in YAML's flow style.
fn route(rules: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: calls}}\nspec: {{parentRefs: \
         [{{group: '', kind: Service, name: vehicle-recognition}}], rules: {rules}}}\n"
    )
}

fn port(port: u16) -> ServicePort {
    let app_protocol = Some("kubernetes.io/h2c".to_owned());
    ServicePort { name: "grpc".to_owned(), port, target_port: 8080, app_protocol }
}

/// A story with these rules, servers of gRPC in `v1` and `v2`, and a caller of `vehicle-recognition`.
fn story(rules: &str) -> (Story, [GrpcServer; 2], GrpcClient) {
    let terrain = Terrain::standard().silent("v1").silent("v2").settings(json!({"proxy": {"drainMs": 1_500}}));
    let terrain = terrain.port("vehicle-recognition", &port(80)).port("service-canary", &port(8080));
    let story = Story::begin(&terrain.file("route.yaml", route(rules)));
    let servers = ["v1", "v2"].map(|pod| GrpcServer::start(&story.lab, pod));
    let client = GrpcClient::start(&story.lab, "client", &format!("{}:80", RECOGNITION[0]));
    (story, servers, client)
}

/// A call's code, and its message or else why there is none.
fn told(answer: &Value) -> String {
    let text = answer["messages"][0].as_str().or(answer["cause"].as_str()).or(answer["details"].as_str());
    format!("{} {}", answer["code"], text.unwrap_or_default())
}

#[test]
fn calls_are_routed_by_what_they_call_and_by_metadata() {
    let (story, _servers, mut client) = story(&format!(
        "[{{matches: [{{method: {{service: weir.Echo}}}}], {V1}}},
          {{matches: [{{method: {{service: weir.Echo}}, headers: [{{name: x-user, value: tester}}]}}], {V2}}},
          {{matches: [{{method: {{service: weir.Gone, method: Say}}}}], backendRefs: [{{name: gone, port: 80}}]}},
          {{matches: [{{method: {{service: weir.Echo, method: Fail}}}}], {V2}, filters: [{{type: RequestHeaderModifier,
             requestHeaderModifier: {{set: [{{name: x-details, value: changed}}]}}}}]}}]"
    ));
    let cases = [
        ("/weir.Echo/Say", json!({}), "0 v1: hello"),
        ("/weir.Echo/Say", json!({"x-user": "tester"}), "0 v2: hello"),
        ("/weir.Echo/Say", json!({"x-user": "testers"}), "0 v1: hello"),
        ("/weir.Echo/Fail", json!({"x-code": "7"}), "7 changed"),
        ("/weir.Echo/None", json!({}), "12 Method not found!"),
        ("/weir.Gone/Say", json!({}), "14 unresolved"),
        ("/weir.Other/Say", json!({}), "12 no_route"),
    ];
    for (call, metadata, expected) in cases {
        let answer = client.order(&json!({"call": call, "message": "hello", "metadata": metadata}));
        assert_eq!(told(&answer), expected, "{call} {metadata}: {answer}");
    }
    for (destination, status) in [("service-canary", 7), ("vehicle-recognition", 12), ("gone", 14)] {
        let labels = [destination.to_owned(), format!("grpc_status=\"{status}\"")];
        let labels = labels.each_ref().map(|label| &**label);
        assert!(story.admin.metric("weir_proxy_grpc_calls_total", &labels) > 0.0, "{labels:?}");
    }
}

#[test]
fn calls_of_one_connection_are_balanced_one_by_one() {
    let backends = "[{name: vehicle-recognition, port: 80, weight: 70}, {name: service-canary, port: 8080, weight: 30},
                     {name: gone, port: 80, weight: 0}]";
    let (_story, _servers, mut client) = story(&format!("[{{backendRefs: {backends}}}]"));
    let answer = client.order(&json!({"call": "/weir.Echo/Say", "message": "x", "times": 500}));
    let messages = answer["messages"].as_array().unwrap();
    let canary = messages.iter().filter(|message| message.as_str() == Some("v2: x")).count();
    // 500 draws of 30 %: the chance to be that far off is below one in a million.
    assert!(messages.len() == 500 && (100..=200).contains(&canary), "{canary} of {}: {answer}", messages.len());
}

#[test]
fn streams_pass_message_by_message_and_end_with_their_deadlines() {
    let (_story, [mut v1, _v2], mut client) = story(&format!("[{{{V1}}}]"));
    client.order(&json!({"open": "chat", "call": "/weir.Echo/Chat"}));
    for number in 0..20 {
        let answer = client.order(&json!({"say": format!("{number}"), "on": "chat"}));
        assert_eq!(told(&answer), format!("0 v1: {number}"));
    }
    assert_eq!(told(&client.order(&json!({"close": "chat"}))), "0 ");
    // A message that is larger than any window on its way.
    let large = "x".repeat(3 << 20);
    let answer = client.order(&json!({"call": "/weir.Echo/Say", "message": large}));
    assert_eq!(told(&answer).len(), "0 v1: ".len() + large.len());

    client.order(&json!({"open": "hang", "call": "/weir.Echo/Hang", "timeout": 0.3}));
    assert_eq!(told(&client.order(&json!({"say": "", "on": "hang"}))), "0 v1");
    assert_eq!(told(&client.order(&json!({"listen": "hang"}))).split(' ').next(), Some("4"));
    v1.await_cancelled();
    client.order(&json!({"open": "hang", "call": "/weir.Echo/Hang"}));
    assert_eq!(told(&client.order(&json!({"say": "", "on": "hang"}))), "0 v1");
    client.order(&json!({"cancel": "hang"}));
    v1.await_cancelled();
}

#[test]
fn a_stream_stays_where_it_is_when_rules_change_and_calls_beside_it_do_not() {
    let (story, servers, mut client) = story(&format!("[{{{V1}}}]"));
    client.order(&json!({"open": "chat", "call": "/weir.Echo/Chat"}));
    assert_eq!(told(&client.order(&json!({"say": "a", "on": "chat"}))), "0 v1: a");
    story.apply("route.yaml", &route(&format!("[{{{V2}}}]")));
    assert_eq!(told(&client.order(&json!({"say": "b", "on": "chat"}))), "0 v1: b");
    assert_eq!(told(&client.order(&json!({"call": "/weir.Echo/Say", "message": "c"}))), "0 v2: c");
    assert_eq!(told(&client.order(&json!({"close": "chat"}))), "0 ");
    drop(servers);
    let answer = client.order(&json!({"call": "/weir.Echo/Say", "message": "d"}));
    assert_eq!(told(&answer), "14 connect_failed", "{answer}");
}

#[test]
fn another_process_takes_over_and_no_call_is_lost() {
    let (mut story, _servers, mut client) = story(&format!("[{{{V1}}}]"));
    client.order(&json!({"open": "chat", "call": "/weir.Echo/Chat"}));
    assert_eq!(told(&client.order(&json!({"say": "a", "on": "chat"}))), "0 v1: a");
    let calls = std::thread::spawn(move || {
        let answer = client.order(&json!({"call": "/weir.Echo/Say", "message": "x", "times": 3_000}));
        (client, answer)
    });
    for _ in 0..2 {
        story.take_over();
    }
    let (mut client, answer) = calls.join().unwrap();
    assert_eq!((&answer["code"], answer["messages"].as_array().unwrap().len()), (&json!(0), 3_000), "{answer}");
    // The stream was with the first process, which has waited for it as long as it may.
    assert_eq!(told(&client.order(&json!({"say": "b", "on": "chat"}))), "14 drained");
}

#[test]
fn curl_speaks_either_version_to_either() {
    let story = Story::begin(
        &Terrain::standard()
            .silent("v2")
            .port("service-canary", &port(8080))
            .rule("all", "{services: [vehicle-recognition, service-canary], timeouts: {request: 5s}}"),
    );
    let _v2 = GrpcServer::start(&story.lab, "v2");
    let url = format!("http://{}/path?q", RECOGNITION[0]);
    let answer = story.curl("client", &["--http2-prior-knowledge", &url, "-d", "body"]);
    let body = answer.json();
    assert_eq!((answer.brief().as_str(), &body["path"]), ("200 v1", &json!("/path?q")), "{answer:?}");
    assert_eq!(body["headers"]["host"], RECOGNITION[0], "{body}");
    // What is no call is no request that a server of gRPC answers well; that it has come there, its own headers say.
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = story.curl("client", &[version, "-X", "POST", &format!("http://{}:8080/x", CANARY[0])]);
        assert_eq!(
            (answer.header("x-weir-cause"), answer.header("content-type")),
            ("", "application/grpc"),
            "{answer:?}"
        );
    }
}
