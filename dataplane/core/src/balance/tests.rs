use super::*;
use crate::split::StickyKey;

/// Endpoints with their load, their latency and their warmth, and what they weigh.
struct Some3([(u32, f64, u32); 3], Weights);

impl Candidates for Some3 {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn load(&self, at: usize) -> u32 {
        self.0[at].0
    }

    fn latency(&self, at: usize) -> f64 {
        self.0[at].1
    }

    fn warmth(&self, at: usize) -> u32 {
        self.0[at].2
    }

    fn weights(&self) -> &Weights {
        &self.1
    }
}

/// How many of ten thousand picks go to each.
fn shares(algorithm: &Algorithm, among: &Some3) -> [usize; 3] {
    let mut shares = [0; 3];
    for turn in 0..10_000 {
        // Rolls that are not random at all: the decision makes them so.
        shares[pick(algorithm, turn, Rolls::new(turn), among).unwrap()] += 1;
    }
    shares
}

#[test]
fn how_each_algorithm_shares_requests() {
    let idle = (0, 1.0, 1_000);
    let within = |share: usize, (least, most): (usize, usize)| (least..=most).contains(&share);
    let third = (3_100, 3_570);
    let hash = Algorithm::ConsistentHash(StickyKey::SourceIp);
    // What each is like, and between which bounds its share lies.
    let cases = [
        (Algorithm::RoundRobin, [idle; 3], [(3_333, 3_334); 3]),
        (Algorithm::Random, [idle; 3], [third; 3]),
        (Algorithm::LeastRequest, [idle; 3], [third; 3]),
        (Algorithm::PeakEwma, [idle; 3], [third; 3]),
        (hash, [idle; 3], [third; 3]),
        // The busiest wins no comparison, the others share its part.
        (Algorithm::LeastRequest, [(9, 1.0, 1_000), idle, idle], [(0, 0), (4_800, 5_200), (4_800, 5_200)]),
        (Algorithm::LeastRequest, [(2, 1.0, 1_000), (1, 1.0, 1_000), idle], [(0, 0), (3_100, 3_570), (6_430, 6_900)]),
        // Ten times as slow, and one request more than it has is still sooner.
        (
            Algorithm::PeakEwma,
            [(0, 10.0, 1_000), (4, 1.0, 1_000), (4, 1.0, 1_000)],
            [(0, 0), (4_800, 5_200), (4_800, 5_200)],
        ),
        (
            Algorithm::PeakEwma,
            [(0, 10.0, 1_000), (20, 1.0, 1_000), (20, 1.0, 1_000)],
            [(6_430, 6_900), third, third].map(|b| (b.0 / 2, b.1 * 2)),
        ),
        // Loads do not matter to these.
        (Algorithm::RoundRobin, [(9, 1.0, 1_000), idle, idle], [(3_333, 3_334); 3]),
        // A cold one takes about its tenth of a share, whatever the algorithm.
        (Algorithm::Random, [(0, 1.0, 100), idle, idle], [(400, 560), (4_600, 4_900), (4_600, 4_900)]),
        (Algorithm::LeastRequest, [(0, 1.0, 100), idle, idle], [(200, 800), (4_400, 5_000), (4_400, 5_000)]),
        (Algorithm::RoundRobin, [(0, 1.0, 100), idle, idle], [(250, 420), (6_200, 6_500), (3_300, 3_400)]),
    ];
    for (algorithm, candidates, bounds) in cases {
        let shares = shares(&algorithm, &Some3(candidates, Weights::default()));
        let is_right = shares.into_iter().zip(bounds).all(|(share, bounds)| within(share, bounds));
        assert!(is_right, "{algorithm:?} {candidates:?}: {shares:?} {bounds:?}");
    }
}

#[test]
fn each_takes_what_it_weighs() {
    let weights = |all: [u16; 3]| Weights::new(all.map(|weight| Weight::new(weight).unwrap()).into_iter());
    let idle = (0, 1.0, 1_000);
    let hash = Algorithm::ConsistentHash(StickyKey::SourceIp);
    for algorithm in [Algorithm::RoundRobin, Algorithm::Random, Algorithm::LeastRequest, Algorithm::PeakEwma, hash] {
        let shares = shares(&algorithm, &Some3([idle; 3], weights([50, 100, 350])));
        let is_right = shares.iter().zip([1_000, 2_000, 7_000]).all(|(share, due)| share.abs_diff(due) < 170);
        assert!(is_right, "{algorithm:?}: {shares:?}");
    }
    // Of one after the other none comes early or late by more than one.
    let weighed = Some3([idle; 3], weights([100, 200, 300]));
    let turns = (0..600).map(|turn| pick(&Algorithm::RoundRobin, turn, Rolls::new(0), &weighed).unwrap());
    let mut taken = [0_i32; 3];
    for (turn, at) in (1..).zip(turns) {
        taken[at] += 1;
        let is_even = taken.iter().zip([1, 2, 3]).all(|(taken, weight)| (taken * 6 - turn * weight).abs() <= 12);
        assert!(is_even, "{turn}: {taken:?}");
    }
    // Thrice the weight carries thrice the load.
    let loaded = |loads: [u32; 3]| Some3(loads.map(|load| (load, 1.0, 1_000)), weights([100, 100, 300]));
    for algorithm in [Algorithm::LeastRequest, Algorithm::PeakEwma] {
        for (loads, expected) in [([2, 2, 5], [false, false, true]), ([1, 1, 4], [true, true, false])] {
            let shares = shares(&algorithm, &loaded(loads));
            let heavy = shares[2] > shares[0] + shares[1];
            assert_eq!(heavy, expected[2], "{algorithm:?} {loads:?}: {shares:?}");
        }
    }
}

#[test]
fn of_none_none_and_of_one_that_one() {
    struct Few(usize);
    impl Candidates for Few {
        fn count(&self) -> usize {
            self.0
        }
        fn load(&self, _: usize) -> u32 {
            panic!("nobody asks")
        }
        fn latency(&self, _: usize) -> f64 {
            panic!("nobody asks")
        }
        fn warmth(&self, _: usize) -> u32 {
            panic!("nobody asks")
        }
        fn weights(&self) -> &Weights {
            panic!("nobody asks")
        }
    }
    for algorithm in [Algorithm::RoundRobin, Algorithm::LeastRequest, Algorithm::PeakEwma, Algorithm::Random] {
        assert_eq!(pick(&algorithm, 7, Rolls::new(7), &Few(0)), None);
        assert_eq!(pick(&algorithm, 7, Rolls::new(7), &Few(1)), Some(0));
    }
}

#[test]
fn a_new_endpoint_takes_more_and_more() {
    let window = Some(Duration::from_secs(10));
    for (age, expected) in [(0, 100), (500, 100), (2_000, 200), (9_990, 999), (10_000, 1_000), (60_000, 1_000)] {
        assert_eq!(warmth(window, Duration::from_millis(age)), expected, "{age} ms");
    }
    assert_eq!(warmth(None, Duration::ZERO), 1_000);
}

#[test]
fn who_takes_requests_by_health_and_by_place() {
    let standing = |text: char| Standing {
        is_well: text.is_lowercase(),
        distance: match text.to_ascii_lowercase() {
            'n' => Distance::Node,
            'z' => Distance::Zone,
            _ => Distance::Far,
        },
    };
    // Endpoints on the node, in its zone, and far away, in capitals where they are not well.
    let cases: [(Locality, u8, &str, &[usize]); 16] = [
        (Locality::Anywhere, 50, "nzf", &[0, 1, 2]),
        (Locality::Anywhere, 50, "nZf", &[0, 2]),
        (Locality::Anywhere, 50, "nZF", &[0, 1, 2]),
        (Locality::Anywhere, 0, "nZF", &[0]),
        (Locality::Anywhere, 0, "NZF", &[]),
        (Locality::Anywhere, 1, "NZF", &[0, 1, 2]),
        (Locality::SameZone, 50, "nzf", &[0, 1]),
        (Locality::SameZone, 50, "NZff", &[2, 3]),
        (Locality::SameZone, 50, "fff", &[0, 1, 2]),
        (Locality::SameNode, 50, "nzf", &[0]),
        (Locality::SameNode, 50, "Nzf", &[1]),
        (Locality::SameNode, 50, "NZff", &[2, 3]),
        (Locality::SameNode, 50, "NZFf", &[0, 1, 2, 3]),
        (Locality::OnlyNode, 50, "nzf", &[0]),
        (Locality::OnlyNode, 50, "zf", &[]),
        (Locality::OnlyNode, 50, "Nnzf", &[1]),
    ];
    for (locality, panic_percent, endpoints, expected) in cases {
        let policy = TrafficPolicy { locality, panic_percent, ..TrafficPolicy::default() };
        let standings: Vec<Standing> = endpoints.chars().map(standing).collect();
        assert_eq!(policy.eligible(&standings), expected, "{locality:?} {panic_percent} {endpoints}");
    }
    assert!(TrafficPolicy::default().eligible(&[]).is_empty());
    let own = (Some("a"), Some("x"));
    for (other, expected) in [
        ((Some("a"), Some("x")), Distance::Node),
        ((Some("b"), Some("x")), Distance::Zone),
        ((None, Some("x")), Distance::Zone),
        ((Some("b"), None), Distance::Far),
        ((None, None), Distance::Far),
    ] {
        assert_eq!(Distance::between(own, other), expected, "{other:?}");
    }
    assert_eq!(Distance::between((None, None), (None, None)), Distance::Far, "nobody knows where anything is");
}

/// A table of endpoints that weigh the same.
fn even(hashes: &[u64]) -> Maglev {
    Maglev::new(&hashes.iter().map(|hash| (*hash, Weight::default())).collect::<Vec<_>>())
}

#[test]
fn hashes_keep_their_endpoint_when_others_come_and_go() {
    let endpoint = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n << 17);
    let before: Vec<u64> = (1..=10).map(endpoint).collect();
    let without: Vec<u64> = before.iter().copied().filter(|one| *one != endpoint(4)).collect();
    let (table, smaller) = (even(&before), even(&without));
    let mut shares = [0; 10];
    let (mut moved, mut skipped) = (0, 0);
    let count = 20_000;
    for n in 0..count {
        let hash = endpoint(n + 1_000);
        let at = table.find(hash, |_| true).unwrap();
        shares[at] += 1;
        if before[at] != endpoint(4) {
            moved += usize::from(without[smaller.find(hash, |_| true).unwrap()] != before[at]);
            // One that is not well takes nobody with it.
            skipped += usize::from(table.find(hash, |other| before[other] != endpoint(4)) != Some(at));
        }
    }
    assert!(shares.iter().all(|share| (1_850..2_150).contains(share)), "{shares:?}");
    assert!(moved < 20_000 / 20, "{moved} of {count} moved although their endpoint stayed");
    assert_eq!(skipped, 0);
    assert_eq!(table.find(7, |_| false), None);
    assert_eq!(Maglev::new(&[]).find(7, |_| true), None);
    assert_eq!(even(&[5]).find(7, |_| true), Some(0));
    assert!((0..1_000).all(|hash| even(&[5, 6]).find(hash, |at| at == 1) == Some(1)));
}

#[test]
fn the_expected_latency_jumps_up_and_sinks_slowly() {
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    let mut latency = PeakEwma::default();
    assert_eq!(latency.micros(), 0.0);
    latency.observe(ms(10), false, s(1));
    assert_eq!(latency.micros(), 10_000.0);
    latency.observe(ms(1), false, s(1));
    assert_eq!(latency.micros(), 10_000.0, "no time has passed");
    latency.observe(ms(1), false, s(11));
    assert!((4_000.0..5_000.0).contains(&latency.micros()), "{}", latency.micros());
    latency.observe(ms(1), false, s(200));
    assert!((1_000.0..1_001.0).contains(&latency.micros()), "{}", latency.micros());
    latency.observe(ms(1), true, s(201));
    assert_eq!(latency.micros(), 1e6, "a failure, however fast");
}

#[test]
fn when_an_endpoint_is_ejected() {
    use Outcome::{GatewayError as G, Good as O, ServerError as S, Unanswered as U};
    let none = OutlierDetection {
        consecutive_5xx: None,
        consecutive_local_failures: None,
        request_volume: 4,
        ..OutlierDetection::default()
    };
    let fives = OutlierDetection { consecutive_5xx: Some(3), ..none };
    let gateway = OutlierDetection { consecutive_gateway_errors: Some(2), ..none };
    let local = OutlierDetection { consecutive_local_failures: Some(2), ..none };
    let percent = OutlierDetection { failure_percentage: Some(50), ..none };
    // After which of the outcomes, from 1; 0 for none.
    let cases: [(&OutlierDetection, &[Outcome], usize); 11] = [
        (&none, &[S, S, S, S, S, S, S], 0),
        (&fives, &[S, G, U], 3),
        (&fives, &[S, S, O, S, S, O], 0),
        (&gateway, &[S, G, S, G, U], 5),
        (&gateway, &[S, S, S, S], 0),
        (&local, &[G, U, G, U, U], 5),
        (&percent, &[S, S, S], 0),
        (&percent, &[S, S, S, S], 4),
        (&percent, &[O, O, O, S, S, S], 6),
        (&percent, &[O, O, O, S, O, S], 0),
        (&percent, &[S, S, O, O], 0),
    ];
    for (policy, outcomes, expected) in cases {
        let mut outlier = Outlier::default();
        let ejecting = |outcome: &Outcome| outlier.on_outcome(*outcome, policy, Duration::from_secs(1));
        let found = outcomes.iter().map(ejecting).position(|is_ejected| is_ejected);
        assert_eq!(found.map_or(0, |at| at + 1), expected, "{policy:?} {outcomes:?}");
    }
    for (status, expected) in [(200, O), (404, O), (429, O), (500, S), (501, S), (502, G), (503, G), (504, G), (599, S)]
    {
        assert_eq!(Outcome::of(status), expected, "{status}");
    }
}

#[test]
fn how_long_an_ejection_lasts() {
    let s = Duration::from_secs;
    let policy = OutlierDetection { base_ejection: s(30), max_ejection: s(70), ..OutlierDetection::default() };
    let mut outlier = Outlier::default();
    assert_eq!([outlier.eject(None, &policy, s(0)), outlier.eject(None, &policy, s(0))], [s(30), s(60)]);
    assert!(outlier.is_ejected(s(59)) && !outlier.is_ejected(s(60)));
    assert!(!outlier.end_ejection(s(59)));
    assert!(outlier.end_ejection(s(60)) && !outlier.end_ejection(s(60)), "once");
    assert_eq!(outlier.eject(None, &policy, s(61)), s(70), "no longer than that");
    assert!(outlier.end_ejection(s(200)));
    assert!(!outlier.on_outcome(Outcome::Good, &policy, s(215)), "an interval later");
    assert_eq!(outlier.eject(Some(s(5)), &policy, s(220)), s(5), "as it asks for itself");
    assert_eq!(outlier.eject(Some(s(5_000)), &policy, s(220)), s(70), "within the bound");
    outlier.end_ejection(s(300));
    outlier.on_outcome(Outcome::Good, &policy, s(1_000));
    assert_eq!(outlier.eject(None, &policy, s(1_000)), s(30), "all is forgiven");
    let most = OutlierDetection { max_ejection_percent: 50, ..policy };
    for (ejected, all, may) in [(0, 1, true), (1, 1, false), (0, 3, true), (1, 3, false), (1, 4, true), (2, 4, false)] {
        assert_eq!(most.may_eject(ejected, all), may, "{ejected} of {all}");
    }
}

#[test]
fn heavier_ones_have_more_of_a_table() {
    let endpoints: Vec<(u64, Weight)> =
        [(11, 100), (22, 50), (33, 250)].map(|(hash, weight)| (hash, Weight::new(weight).unwrap())).into();
    let parts = |endpoints: &[(u64, Weight)]| {
        let table = Maglev::new(endpoints);
        let mut parts = [0_usize; 3];
        (0..16_381).for_each(|hash| parts[table.find(hash, |_| true).unwrap()] += 1);
        parts
    };
    for (part, due) in parts(&endpoints).into_iter().zip([4_095, 2_047, 10_238]) {
        assert!(part.abs_diff(due) < 30, "{:?}", parts(&endpoints));
    }
    // What one weighs less goes to the others, and little else moves.
    let mut lighter = endpoints.clone();
    lighter[2].1 = Weight::new(200).unwrap();
    let (before, after) = (Maglev::new(&endpoints), Maglev::new(&lighter));
    let of = |table: &Maglev, hash| table.find(hash, |_| true).unwrap();
    let moved = (0..16_381).filter(|&hash| of(&before, hash) != 2 && of(&before, hash) != of(&after, hash)).count();
    assert!(moved < 16_381 / 20, "{moved}");
}
