//! Weighted destinations, and that a user stays where he is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_e2e::{RECOGNITION, Story, Terrain, brief};
use weir_lab::PodSpec;
use weir_lab::client::{Connection, Request};

const LIMIT: Duration = Duration::from_secs(10);
const USERS: usize = 600;

fn split(sticky: &str, weight: u32) -> String {
    format!(
        "{{services: [vehicle-recognition], route: {{{sticky} destinations: [{{host: vehicle-recognition, weight: {}}}, \
         {{host: service-canary, port: 8080, weight: {weight}}}]}}}}",
        100 - weight
    )
}

#[track_caller]
fn ask(connection: &mut Connection, header: &str) -> String {
    let (name, value) = header.split_once(": ").unwrap();
    let request = Request::new("GET", &format!("http://{}/fast", RECOGNITION[0])).unwrap().header(name, value);
    brief(&connection.exchange(&request, LIMIT).unwrap())
}

/// The users, by their header, that get the new version. Everybody gets one of the two.
#[track_caller]
fn on_new(connection: &mut Connection, header_of: impl Fn(usize) -> String) -> BTreeSet<usize> {
    let is_on_new = |user: &usize| match ask(connection, &header_of(*user)).as_str() {
        "200 v2" => true,
        "200 v1" => false,
        other => panic!("user {user} got {other}"),
    };
    (0..USERS).filter(is_on_new).collect()
}

#[test]
fn raising_the_share_only_adds_users() {
    let story = Story::begin(&Terrain::standard().rule("split", &split("sticky: {header: x-user-id},", 5)));
    let mut connection = story.connect("client", RECOGNITION[0]);
    let header = |user: usize| format!("x-user-id: user-{user}");
    let five = on_new(&mut connection, header);
    assert_eq!(on_new(&mut connection, header), five, "each user stays");
    let mut before = five.clone();
    for weight in [10, 25, 60] {
        // On the same connection: requests see the new weights at once, and nobody is disconnected.
        story.apply_rule("split", &split("sticky: {header: x-user-id},", weight));
        let now = on_new(&mut connection, header);
        let gone: Vec<_> = before.difference(&now).collect();
        assert!(gone.is_empty(), "at {weight} % users {gone:?} lost the new version");
        // Six standard deviations of a fair hash.
        let (expected, share) = (USERS as f64 * f64::from(weight) / 100.0, f64::from(weight) / 100.0);
        let spread = 6.0 * (expected * (1.0 - share)).sqrt();
        assert!((now.len() as f64 - expected).abs() < spread, "{} of {USERS} at {weight} %", now.len());
        before = now;
    }
    let (few, expected) = (five.len(), USERS / 20);
    assert!(few > 0 && few < expected * 3, "{few} of {USERS} at 5 %");
}

#[test]
fn a_cookie_is_a_key_and_without_it_requests_are_drawn() {
    let story = Story::begin(&Terrain::standard().rule("split", &split("sticky: {cookie: uid},", 50)));
    let mut connection = story.connect("client", RECOGNITION[0]);
    let header = |user: usize| format!("cookie: theme=dark; uid=u{user}");
    let first = on_new(&mut connection, header);
    assert_eq!(on_new(&mut connection, header), first);
    let share = |count: usize| (count as f64 / USERS as f64 * 100.0).round();
    assert!((30.0..70.0).contains(&share(first.len())), "{} % of cookies", share(first.len()));
    // The same words without the cookie: a draw for each request, which differs from request to request.
    let drawn = |connection: &mut Connection| on_new(connection, |_| "cookie: theme=dark".to_owned());
    let (one, two) = (drawn(&mut connection), drawn(&mut connection));
    assert_ne!(one, two, "600 draws that are equal twice are no draws");
    assert!((30.0..70.0).contains(&share(one.len())), "{} % drawn", share(one.len()));
}

#[test]
fn a_source_is_a_key_by_address_and_by_identity() {
    let mut terrain = Terrain::standard().rule("split", &split("sticky: {source: ip},", 50));
    for number in 0..12 {
        let account = if number % 2 == 0 { "even" } else { "odd" };
        terrain.spec.pods.push(PodSpec::new(&format!("c{number}")).service_account(account));
    }
    let story = Story::begin(&terrain);
    let ask_all = |times: usize| -> BTreeMap<String, BTreeSet<String>> {
        let of = |pod: String| {
            let mut connection = story.connect(&pod, RECOGNITION[0]);
            let answers = (0..times).map(|_| ask(&mut connection, "x-nothing: here")).collect();
            (pod, answers)
        };
        (0..12).map(|number| of(format!("c{number}"))).collect()
    };
    let by_address = ask_all(5);
    assert!(by_address.values().all(|answers| answers.len() == 1), "each address stays: {by_address:?}");
    assert_eq!(ask_all(5), by_address);
    let all: BTreeSet<_> = by_address.values().flatten().collect();
    assert_eq!(all.len(), 2, "12 addresses on one side has a chance of 1 in 2048: {by_address:?}");
    story.apply_rule("split", &split("sticky: {source: identity},", 50));
    let by_identity = ask_all(3);
    for account in [0, 1] {
        let of_account: BTreeSet<_> =
            (0..6).flat_map(|number| by_identity[&format!("c{}", number * 2 + account)].clone()).collect();
        assert_eq!(of_account.len(), 1, "one identity, one version: {by_identity:?}");
    }
}

#[test]
fn weights_hold_without_a_key_and_an_unresolved_share_is_never_given_to_another() {
    let spec = "{services: [vehicle-recognition], route: {destinations: [{host: vehicle-recognition, weight: 70}, \
                {host: no-such-service, port: 80, weight: 30}]}}";
    let story = Story::begin(&Terrain::standard().rule("half-broken", spec));
    let mut connection = story.connect("client", RECOGNITION[0]);
    let mut counts = BTreeMap::<String, usize>::new();
    for number in 0..1000 {
        *counts.entry(ask(&mut connection, &format!("x-n: {number}"))).or_default() += 1;
    }
    let kinds: Vec<&str> = counts.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["200 v1", "500 unresolved"], "{counts:?}");
    // 30 % of 1000 with a standard deviation of 14.5.
    assert!((213..387).contains(&counts["500 unresolved"]), "{counts:?}");
}

#[test]
fn a_weight_of_zero_takes_nobody() {
    let story = Story::begin(&Terrain::standard().rule("split", &split("sticky: {header: x-user-id},", 0)));
    let mut connection = story.connect("client", RECOGNITION[0]);
    let header = |user: usize| format!("x-user-id: user-{user}");
    assert_eq!(on_new(&mut connection, header).len(), 0);
    story.apply_rule("split", &split("sticky: {header: x-user-id},", 100));
    assert_eq!(on_new(&mut connection, header).len(), USERS);
}
