//! When the requests of the open loop are due.

use std::{fmt, str::FromStr, time::Duration};

use fastrand::Rng;

/// How requests are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// With exponential gaps, as the requests of many people who do not know of each other.
    Poisson,
    /// With equal gaps.
    Fixed,
}

impl FromStr for Arrivals {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "poisson" => Ok(Self::Poisson),
            "fixed" => Ok(Self::Fixed),
            _ => Err("is neither poisson nor fixed"),
        }
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poisson => "poisson",
            Self::Fixed => "fixed",
        })
    }
}

/// Due times, from the start of the run, without end. They follow from rate and seed alone.
#[derive(Debug)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    rate: f64,
    rng: Rng,
    /// Gaps of a second's rate that have passed: adding these up, and dividing last, keeps fixed arrivals exact.
    gaps: f64,
}

impl Schedule {
    /// Due times at `rate` requests per second.
    pub(crate) fn new(arrivals: Arrivals, rate: f64, seed: u64) -> Self {
        Self { arrivals, rate, rng: Rng::with_seed(seed), gaps: 0.0 }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.gaps += match self.arrivals {
            // 1 - u lies in (0, 1]: its logarithm is finite.
            Arrivals::Poisson => -(1.0 - self.rng.f64()).ln(),
            Arrivals::Fixed => 1.0,
        };
        Duration::try_from_secs_f64(self.gaps / self.rate).ok()
    }
}

/// Tells and passes the time of a run.
pub(crate) trait Clock {
    /// Time since the start of the run.
    fn now(&self) -> Duration;
    /// Waits until then, or until the run is stopped.
    fn wait_until(&self, then: Duration);
    /// Whether the run was stopped.
    fn stopped(&self) -> bool;
}

/// Calls `fire` with each due time before `end` when it came, at once for those that have passed already.
pub(crate) fn pace(
    due_times: impl Iterator<Item = Duration>,
    end: Duration,
    clock: &impl Clock,
    mut fire: impl FnMut(Duration),
) {
    for due in due_times.take_while(|due| *due < end) {
        if clock.now() < due {
            clock.wait_until(due);
        }
        if clock.stopped() {
            return;
        }
        fire(due);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A clock that only moves when it is waited for, or pushed.
    struct Pretended {
        now: Cell<Duration>,
        stop: Duration,
    }

    impl Clock for Pretended {
        fn now(&self) -> Duration {
            self.now.get()
        }
        fn wait_until(&self, then: Duration) {
            self.now.set(then);
        }
        fn stopped(&self) -> bool {
            self.now.get() >= self.stop
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn due_times_do_not_drift_when_sending_is_slow() {
        let clock = Pretended { now: Cell::default(), stop: Duration::MAX };
        let mut fired = Vec::new();
        pace(Schedule::new(Arrivals::Fixed, 10.0, 1), 2 * SECOND, &clock, |due| {
            fired.push((due, clock.now()));
            // The fifth holds everything up for a second.
            if fired.len() == 5 {
                clock.now.set(clock.now() + SECOND);
            }
        });
        let due: Vec<_> = fired.iter().map(|(due, _)| due.as_millis()).collect();
        assert_eq!(due, (1..20).map(|number| number * 100).collect::<Vec<_>>());
        // What was due meanwhile is sent at once, all of it, and what comes then is in time again.
        let (late, in_time): (Vec<_>, Vec<_>) = fired.iter().partition(|(due, sent)| sent > due);
        assert!(late.iter().all(|(_, sent)| sent.as_millis() == 1500), "{late:?}");
        assert_eq!((late.len(), in_time.len()), (9, 10));
    }

    #[test]
    fn a_stop_ends_the_schedule() {
        let clock = Pretended { now: Cell::default(), stop: SECOND };
        let mut fired = 0;
        pace(Schedule::new(Arrivals::Fixed, 10.0, 1), 10 * SECOND, &clock, |_| fired += 1);
        assert_eq!(fired, 9);
    }

    #[test]
    fn fixed_arrivals_are_exact_after_an_hour() {
        let last = Schedule::new(Arrivals::Fixed, 3.0, 1).nth(3 * 3600 - 1);
        assert_eq!(last, Some(Duration::from_hours(1)));
    }

    #[test]
    fn poisson_arrivals_keep_their_rate_and_their_spread() {
        let due: Vec<f64> =
            Schedule::new(Arrivals::Poisson, 50.0, 7).take(50_000).map(|due| due.as_secs_f64()).collect();
        let gaps: Vec<f64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let count = 49_999.0;
        let mean = gaps.iter().sum::<f64>() / count;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count).sqrt();
        assert!((mean * 50.0 - 1.0).abs() < 0.02, "{mean}");
        assert!((deviation / mean - 1.0).abs() < 0.02, "{deviation}");
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals() {
        let due = |seed| Schedule::new(Arrivals::Poisson, 50.0, seed).take(100).collect::<Vec<_>>();
        assert_eq!(due(7), due(7));
        assert_ne!(due(7), due(8));
    }
}
