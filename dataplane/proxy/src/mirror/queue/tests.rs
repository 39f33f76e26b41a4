use super::*;

const PLENTY: usize = 32 << 20;

fn data(count: usize) -> Frame<Bytes> {
    Frame::data(Bytes::from(vec![7; count]))
}

/// The next frame: its size, the end, why the copy was given up, or that there is nothing yet.
fn next(body: &mut CopyBody) -> Result<Option<usize>, Option<MirrorEvent>> {
    match body.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(frame))) => Ok(Some(frame.into_data().map_or(0, |data| data.len()))),
        Poll::Ready(None) => Ok(None),
        Poll::Ready(Some(Err(BodyError::Copy(event)))) => Err(Some(event)),
        _ => Err(None),
    }
}

#[test]
fn pieces_pass_in_order_and_free_their_memory() {
    let budget = Budget::new(PLENTY);
    let (tee, mut body) = queue(&MirrorLimits::default(), &budget, &Arc::default(), SizeHint::new());
    assert_eq!(next(&mut body), Err(None));
    tee.push(&data(3));
    assert_eq!(budget.left(), PLENTY - Block::cost(3), "a piece that comes alone costs what it is");
    tee.push(&data(10_000));
    tee.push(&Frame::trailers(HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))])));
    tee.push(&Frame::data(Bytes::new()));
    tee.finish();
    assert_eq!((next(&mut body), next(&mut body)), (Ok(Some(3)), Ok(Some(10_000))));
    assert!(!body.is_end());
    assert_eq!((next(&mut body), next(&mut body)), (Ok(Some(0)), Ok(None)));
    assert!(body.is_end());
    assert_eq!((budget.left(), body.ending().taken()), (PLENTY, 10_003));
}

#[test]
fn what_is_being_sent_is_still_charged() {
    let budget = Budget::new(PLENTY);
    let (tee, mut body) = queue(&MirrorLimits::default(), &budget, &Arc::default(), SizeHint::new());
    tee.push(&data(1_000));
    let Poll::Ready(Some(Ok(frame))) = body.poll(&mut Context::from_waker(Waker::noop())) else { panic!("a frame") };
    drop((tee, body));
    assert_eq!(budget.left(), PLENTY - Block::cost(1_000));
    drop(frame);
    assert_eq!(budget.left(), PLENTY);
}

#[test]
fn however_a_body_is_cut_up_it_costs_little_more_than_its_bytes() {
    for (piece, count) in [(1, 100_000), (100, 50_000), (1_500, 4_000), (9_000, 800), (65_536, 100), (7_000_000, 1)] {
        let budget = Budget::new(PLENTY);
        let (tee, mut body) = queue(&MirrorLimits::default(), &budget, &Arc::default(), SizeHint::new());
        let sent: Vec<u8> = (0..piece * count).map(|number| (number % 251) as u8).collect();
        let mut most = 0;
        for piece in sent.chunks(piece) {
            tee.push(&Frame::data(Bytes::copy_from_slice(piece)));
            most = most.max(PLENTY - budget.left());
        }
        tee.finish();
        assert!(most <= sent.len() + sent.len() / 50 + 2 * BLOCK_BYTES, "{count} pieces of {piece}: {most}");
        let mut got = Vec::new();
        while let Poll::Ready(Some(frame)) = body.poll(&mut Context::from_waker(Waker::noop())) {
            got.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        assert!(got == sent, "{count} pieces of {piece}");
        assert_eq!(budget.left(), PLENTY);
    }
}

#[test]
fn what_does_not_fit_gives_the_copy_up_and_frees_its_memory() {
    let limits = MirrorLimits { copy_bytes: 2_000, ..MirrorLimits::default() };
    let cases: [(&[usize], usize, MirrorEvent); 4] = [
        (&[900, 900], PLENTY, MirrorEvent::Overflow),
        (&[2_000], PLENTY, MirrorEvent::Overflow),
        (&[500], 400, MirrorEvent::Budget),
        // There would be room, but none would be left for others.
        (&[500], Block::cost(500) * 2 - 1, MirrorEvent::Budget),
    ];
    for (pieces, total, expected) in cases {
        let budget = Budget::new(total);
        let (tee, mut body) = queue(&limits, &budget, &Arc::default(), SizeHint::new());
        pieces.iter().for_each(|count| tee.push(&data(*count)));
        assert_eq!(next(&mut body), Err(Some(expected)), "{pieces:?}");
        tee.finish();
        assert_eq!((budget.left(), body.ending().given_up()), (total, Some(expected)));
    }
}

#[test]
fn copies_that_hang_leave_room_for_small_ones() {
    let limits = MirrorLimits::default();
    let budget = Budget::new(limits.total_bytes);
    let hanging: Vec<_> = (0..8).map(|_| queue(&limits, &budget, &Arc::default(), SizeHint::new())).collect();
    for (tee, _) in &hanging {
        (0..1_000).for_each(|_| tee.push(&data(5_000)));
    }
    let (tee, mut body) = queue(&limits, &budget, &Arc::default(), SizeHint::new());
    tee.push(&data(10_000));
    assert_eq!(next(&mut body), Ok(Some(10_000)));
    let given_up = hanging.iter().filter(|(_, body)| body.ending().given_up() == Some(MirrorEvent::Budget)).count();
    assert_eq!(given_up, 6, "two times 5 MB of 16 MiB, and each of the others more than it would have left");
}

#[test]
fn either_side_may_go_first() {
    let budget = Budget::new(PLENTY);
    let (tee, mut body) = queue(&MirrorLimits::default(), &budget, &Arc::default(), SizeHint::new());
    tee.push(&data(100));
    drop(tee);
    assert_eq!(next(&mut body), Err(Some(MirrorEvent::Aborted)));
    let (tee, body) = queue(&MirrorLimits::default(), &budget, &Arc::default(), SizeHint::new());
    tee.push(&data(100));
    drop(body);
    tee.push(&data(100));
    assert_eq!(budget.left(), PLENTY);
}
