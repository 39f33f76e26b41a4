use std::time::Duration;

use weir_core::name::{ClusterName, ObjectName, ServiceName};
use weir_core::stats::{StatsId, StatsTable};

use super::*;

fn keys() -> (Vec<StatsKey>, StatsId, StatsId) {
    let destination = ClusterName { service: ServiceName::new("default", "canary"), port: 8080 };
    let rule = ObjectName::new("RouteRule", "default", "users");
    let mut table = StatsTable::default();
    let route = table.id(StatsKey::Route { rule: Some(rule.clone()), destination: destination.clone() });
    let mirror = table.id(StatsKey::Mirror { rule, destination });
    (table.keys().to_vec(), route, mirror)
}

#[test]
fn the_numbers_of_causes_and_events_are_their_positions() {
    for (position, cause) in Cause::ALL.iter().enumerate() {
        assert_eq!(*cause as usize, position, "{cause:?}");
    }
    for (position, event) in WorkerEvent::ALL.iter().enumerate() {
        assert_eq!(*event as usize, position, "{event:?}");
    }
    for (position, event) in MirrorEvent::ALL.iter().enumerate() {
        assert_eq!(*event as usize, position, "{event:?}");
    }
}

#[test]
fn what_two_workers_count_is_added_up() {
    let telemetry = Telemetry::default();
    let (keys, route, mirror) = keys();
    let end = RequestEnd {
        status: Some(200),
        call: None,
        cause: None,
        duration: Duration::from_micros(100),
        request_bytes: 3,
        response_bytes: 5,
    };
    for worker in [telemetry.register_worker(), telemetry.register_worker()] {
        worker.on(WorkerEvent::Accepted);
        worker.on_unrouted(Cause::Garbage);
        for _ in 0..3 {
            worker.route(route).on_start();
        }
        worker.route(route).on_end(&end);
        worker.route(route).on_end(&RequestEnd { status: Some(503), cause: Some(Cause::NoEndpoint), ..end });
        worker.mirror(mirror).on_start();
        worker.mirror(mirror).on_end(MirrorEvent::Busy);
    }
    let routes = telemetry.routes(&keys);
    assert_eq!(routes.len(), 1);
    assert_eq!((routes[0].requests, routes[0].in_flight, routes[0].errors()), (4, 2, 2));
    assert_eq!((routes[0].request_bytes, routes[0].response_bytes), (12, 20));
    assert_eq!(telemetry.mirrors(&keys)[0].count(MirrorEvent::Busy), 2);
    assert_eq!(telemetry.count(WorkerEvent::Accepted), 2);
    assert_eq!((telemetry.count_cause(Cause::NoEndpoint), telemetry.count_cause(Cause::Garbage)), (2, 2));

    let text = telemetry.encode(&keys).unwrap();
    for line in [
        r#"weir_proxy_requests_total{rule="default/users",destination="default/canary:8080",status="5xx"} 2"#,
        r#"weir_proxy_local_replies_total{rule="default/users",destination="default/canary:8080",cause="no_endpoint"} 2"#,
        r#"weir_proxy_requests_in_flight{rule="default/users",destination="default/canary:8080"} 2"#,
        r#"weir_proxy_response_body_bytes_total{rule="default/users",destination="default/canary:8080"} 20"#,
        r#"weir_proxy_request_duration_seconds_bucket{le="0.000128",rule="default/users",destination="default/canary:8080"} 4"#,
        r#"weir_proxy_request_duration_seconds_count{rule="default/users",destination="default/canary:8080"} 4"#,
        r#"weir_mirror_copies_total{rule="default/users",destination="default/canary:8080",outcome="busy"} 2"#,
        r#"weir_proxy_events_total{event="accepted"} 2"#,
        r#"weir_proxy_connections{side="downstream"} 2"#,
        r#"weir_proxy_unrouted_total{cause="garbage"} 2"#,
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
    }
}

#[test]
fn numbers_beyond_the_table_are_counted_together() {
    let shard = Telemetry::default().register_worker();
    shard.route(StatsId(u32::MAX)).on_start();
    assert_eq!(shard.existing_route(0).map(|overflow| overflow.started.value()), Some(1));
}

#[derive(Debug)]
struct Extra;

impl Collector for Extra {
    fn encode(&self, mut encoder: prometheus_client::encoding::DescriptorEncoder) -> fmt::Result {
        let kind = prometheus_client::metrics::MetricType::Gauge;
        encoder.encode_descriptor("weir_extra", "Of another part", None, kind)?.encode_gauge(&7_u64)
    }
}

#[test]
fn other_parts_add_their_own_metrics() {
    let telemetry = Telemetry::default();
    telemetry.register_collector(Box::new(Extra));
    assert!(telemetry.encode(&[]).unwrap().contains("weir_extra 7\n"));
}
