use super::*;

const OPEN: Duration = Duration::from_secs(10);

fn breaker(window: usize, failure_rate: u8, half_open: u32) -> (Arc<Breaker>, Clock, IntGauge) {
    let clock = Clock::manual(1_000_000);
    let gauge = IntGauge::new("open", "open").expect("a name");
    let plan = RatePlan {
        window,
        failure_rate,
        open: OPEN,
        half_open,
    };
    let breaker = Breaker::new(plan, "a".into(), clock.clone(), gauge.clone());
    (breaker, clock, gauge)
}

/// One request with this end.
fn request(breaker: &Arc<Breaker>, failed: bool) {
    breaker.enter().expect("let through").tell(failed);
}

fn refused(breaker: &Arc<Breaker>) -> Option<u32> {
    match breaker.enter() {
        Err(NoPeer::Open { retry_after }) => Some(retry_after),
        _ => None,
    }
}

#[test]
fn it_opens_when_the_window_is_full_and_the_share_is_reached() {
    let (breaker, _, gauge) = breaker(4, 50, 1);
    for failed in [true, true, true] {
        request(&breaker, failed);
        assert_eq!(breaker.label(), "closed", "three results are no window");
    }
    request(&breaker, false);
    assert_eq!(breaker.label(), "closed", "only a failure opens it");
    request(&breaker, true);
    assert_eq!((breaker.label(), gauge.get()), ("open", 1));
    assert_eq!(refused(&breaker), Some(10));
}

#[test]
fn old_results_are_forgotten() {
    let (breaker, ..) = breaker(10, 50, 1);
    for round in 0..100 {
        request(&breaker, round % 5 < 2);
    }
    assert_eq!(breaker.label(), "closed", "four of ten");
    for _ in 0..10 {
        request(&breaker, false);
    }
    for _ in 0..4 {
        request(&breaker, true);
    }
    assert_eq!(breaker.label(), "closed");
    request(&breaker, true);
    assert_eq!(breaker.label(), "open");
}

fn open(half_open: u32) -> (Arc<Breaker>, Clock, IntGauge) {
    let (breaker, clock, gauge) = breaker(2, 50, half_open);
    request(&breaker, true);
    request(&breaker, true);
    assert_eq!(breaker.label(), "open");
    (breaker, clock, gauge)
}

#[test]
fn it_stays_open_for_its_time_and_says_how_long() {
    let (breaker, clock, _) = open(1);
    clock.advance(OPEN - Duration::from_millis(1500));
    assert_eq!(refused(&breaker), Some(2));
    clock.advance(Duration::from_millis(1499));
    assert_eq!(refused(&breaker), Some(1));
    clock.advance(Duration::from_millis(1));
    assert_eq!(refused(&breaker), None);
}

#[test]
fn so_many_trials_and_no_more_and_then_it_closes() {
    let (breaker, clock, gauge) = open(2);
    clock.advance(OPEN);
    let (mut one, mut two) = (
        breaker.enter().expect("a trial"),
        breaker.enter().expect("one more"),
    );
    assert_eq!(refused(&breaker), Some(1));
    one.tell(false);
    drop(one);
    assert_eq!(breaker.label(), "half_open");
    two.tell(false);
    drop(two);
    assert_eq!((breaker.label(), gauge.get()), ("closed", 0));
    request(&breaker, true);
    assert_eq!(breaker.label(), "closed", "it begins with an empty window");
}

#[test]
fn a_trial_that_fails_opens_it_again_for_the_whole_time() {
    let (breaker, clock, _) = open(2);
    clock.advance(OPEN);
    request(&breaker, true);
    assert_eq!(refused(&breaker), Some(10));
    clock.advance(OPEN);
    request(&breaker, false);
    request(&breaker, false);
    assert_eq!(breaker.label(), "closed");
}

#[test]
fn a_trial_without_a_result_gives_its_place_back() {
    let (breaker, clock, _) = open(1);
    clock.advance(OPEN);
    drop(breaker.enter().expect("a trial"));
    assert_eq!(breaker.label(), "half_open");
    request(&breaker, false);
    assert_eq!(breaker.label(), "closed");
}

#[test]
fn what_comes_too_late_changes_nothing() {
    let (breaker, clock, _) = breaker(2, 50, 2);
    let mut before = breaker.enter().expect("closed");
    request(&breaker, true);
    request(&breaker, true);
    clock.advance(OPEN);
    let mut trial = breaker.enter().expect("a trial");
    request(&breaker, true);
    assert_eq!(breaker.label(), "open");
    clock.advance(OPEN);
    let _next = breaker.enter().expect("a trial of the next time");
    trial.tell(true);
    drop(trial);
    before.tell(true);
    drop(before);
    assert_eq!(breaker.label(), "half_open");
}

#[test]
fn many_threads_lose_no_result() {
    let (breaker, ..) = breaker(1000, 100, 1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..249).for_each(|_| request(&breaker, true)));
        }
    });
    assert_eq!(breaker.label(), "closed", "996 of 1000");
    for _ in 0..4 {
        request(&breaker, true);
    }
    assert_eq!(breaker.label(), "open");
}
