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
    for (worker, apps) in
        [(telemetry.register_worker(), ["web", "jobs"]), (telemetry.register_worker(), ["web", "web"])]
    {
        let sources = apps.map(|app| worker.source_id(&"shop".into(), &app.into()));
        worker.on(WorkerEvent::Accepted);
        worker.on_unrouted(Cause::Garbage);
        let [first, second] = sources.map(|source| worker.route(worker.row(route, source)));
        first.on_start();
        first.on_start();
        second.on_start();
        first.on_end(&end);
        second.on_end(&RequestEnd { status: Some(503), cause: Some(Cause::NoEndpoint), ..end });
        worker.source(sources[0]).on_open();
        worker.source(sources[0]).on_open();
        worker.source(sources[0]).on_close();
        worker.source(sources[1]).on_refused(Refused::Request);
        worker.source(sources[1]).on_processor_time(250_000_000);
        worker.source(sources[1]).on_relayed_to(9);
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
        r#"weir_proxy_requests_total{rule="default/users",destination="default/canary:8080",source_namespace="shop",source="web",status="2xx"} 2"#,
        r#"weir_proxy_requests_total{rule="default/users",destination="default/canary:8080",source_namespace="shop",source="web",status="5xx"} 1"#,
        r#"weir_proxy_requests_total{rule="default/users",destination="default/canary:8080",source_namespace="shop",source="jobs",status="5xx"} 1"#,
        r#"weir_proxy_local_replies_total{rule="default/users",destination="default/canary:8080",source_namespace="shop",source="jobs",cause="no_endpoint"} 1"#,
        r#"weir_proxy_requests_in_flight{rule="default/users",destination="default/canary:8080",source_namespace="shop",source="web"} 2"#,
        r#"weir_proxy_response_body_bytes_total{rule="default/users",destination="default/canary:8080",source_namespace="shop",source="web"} 15"#,
        r#"weir_workload_connections_opened_total{source_namespace="shop",source="web"} 4"#,
        r#"weir_workload_connections{source_namespace="shop",source="web"} 2"#,
        r#"weir_workload_refused_total{source_namespace="shop",source="jobs",what="request"} 1"#,
        r#"weir_workload_cpu_seconds_total{source_namespace="shop",source="jobs"} 0.25"#,
        r#"weir_workload_relayed_bytes_total{source_namespace="shop",source="jobs",direction="to"} 9"#,
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
fn what_is_too_much_is_counted_together() {
    let shard = Telemetry::default().register_worker();
    let app = |number: usize| shard.source_id(&"default".into(), &number.to_string().into());
    let rows: std::collections::HashSet<u32> = (0..30_000).map(|n| shard.row(StatsId(n), app(0)).0).collect();
    assert_eq!(rows.len(), 16_384);
    assert_eq!(shard.row(StatsId(29_999), app(0)), RowId(0));
    shard.route(RowId(u32::MAX)).on_start();
    assert_eq!(shard.rows().next().map(|(key, row)| (key.0, row.started.value())), Some((StatsId(0), 1)));
}

#[test]
fn sources_are_told_apart_while_there_is_room_and_destinations_longer() {
    let shard = Telemetry::default().register_worker();
    let [one, other] = ["one", "other"].map(|name| shard.source_id(&"default".into(), &name.into()));
    (0..4_096).for_each(|number| {
        shard.row(StatsId(number), one);
    });
    assert_ne!(shard.row(StatsId(1), one), shard.row(StatsId(5_000), one));
    assert_eq!(shard.row(StatsId(5_000), one), shard.row(StatsId(5_000), other));
    assert_eq!(shard.rows().last().map(|(key, _)| key), Some((StatsId(5_000), SourceId::OVERFLOW)));
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
