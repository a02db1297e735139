//! Rounds, turns and waits of a flusher.

use super::*;

const MANY: usize = 200;

fn crowd(list: &FlushList) -> Vec<(Outbox, Carrier)> {
    (0..MANY).map(|_| connected_to(list, 1 << 20)).collect()
}

fn emit(crowd: &[(Outbox, Carrier)], times: usize) {
    for (outbox, _) in crowd {
        (0..times).for_each(|_| assert_eq!(push(outbox, "x"), PushOutcome::Queued));
    }
}

fn reached(crowd: &[(Outbox, Carrier)]) -> usize {
    crowd.iter().filter(|(_, carrier)| !carrier.written().is_empty()).count()
}

fn is_ready(flusher: &Flusher) -> bool {
    flusher.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Returns a flusher that has just written many frames to each outbox of a crowd.
fn under_load() -> (FlushList, Flusher, Vec<(Outbox, Carrier)>) {
    let list = FlushList::new();
    let (mut flusher, crowd) = (Flusher::new(list.clone()), crowd(&list));
    emit(&crowd, 16);
    flusher.write(MANY);
    assert_eq!((reached(&crowd), is_ready(&flusher), flusher.max_wait()), (MANY, false, None));
    crowd.iter().for_each(|(_, carrier)| carrier.line().written.clear());
    (list, flusher, crowd)
}

#[test]
fn unfinished_round_stays_ready() {
    let list = FlushList::new();
    let (mut flusher, crowd) = (Flusher::new(list.clone()), crowd(&list));
    assert!(!is_ready(&flusher));
    emit(&crowd, 1);
    for expected in [80, 160, MANY] {
        assert!(is_ready(&flusher));
        flusher.write(80);
        assert_eq!(reached(&crowd), expected);
    }
    assert!(!is_ready(&flusher));
    assert_eq!(list.written().frames, MANY as u64);
}

#[test]
fn writes_one_outbox_at_least() {
    let list = FlushList::new();
    let (mut flusher, crowd) = (Flusher::new(list.clone()), crowd(&list));
    emit(&crowd, 1);
    flusher.write(0);
    assert_eq!(reached(&crowd), 1);
}

#[test]
fn short_round_waits_for_usual_frames() {
    let (_list, mut flusher, crowd) = under_load();
    emit(&crowd, 2);
    flusher.write(MANY);
    assert_eq!((reached(&crowd), flusher.max_wait()), (0, Some(Flusher::WAIT)));
    assert!(!is_ready(&flusher), "the task sleeps meanwhile");
    emit(&crowd, 14);
    flusher.write(MANY);
    assert_eq!(flusher.max_wait(), None);
    flusher.write(MANY);
    assert!(crowd.iter().all(|(_, carrier)| carrier.written().len() == 16));
}

#[test]
fn postponed_round_is_written_in_time() {
    let (_list, mut flusher, crowd) = under_load();
    emit(&crowd, 2);
    let mut waits = 0;
    flusher.write(MANY);
    while flusher.max_wait().is_some() {
        waits += 1;
        flusher.write(MANY);
    }
    flusher.write(MANY);
    assert_eq!((waits, reached(&crowd)), (3, MANY));
}

#[test]
fn postponed_round_delays_no_other_client() {
    let (list, mut flusher, crowd) = under_load();
    let (loner, carrier) = connected_to(&list, 1 << 20);
    emit(&crowd, 2);
    flusher.write(MANY);
    assert_eq!(push(&loner, "y"), PushOutcome::Queued);
    assert!(is_ready(&flusher));
    flusher.write(MANY);
    assert_eq!((carrier.written().len(), reached(&crowd)), (1, 0));
}

#[test]
fn writing_all_ends_a_wait() {
    let (_list, mut flusher, crowd) = under_load();
    emit(&crowd, 2);
    flusher.write(MANY);
    flusher.write_all();
    assert_eq!((reached(&crowd), flusher.max_wait(), is_ready(&flusher)), (MANY, None, false));
}
