//! Who talks for a rank. The loop of a rank belongs to one thread at a time: to the one that plays the rank, as a rule. That
//! thread leaves the loop for what may take long, a task or the program around the library; when it does not come back
//! within some milliseconds, an understudy goes on with the loop until it does. So a rank is never silent, and a rank that is
//! only away for microseconds pays a lock that nobody else wants.

use crate::wake::Wake;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is played: the loop of a rank.
pub(super) trait Play: Send + 'static {
    /// Goes on until `leave` says so or there is nothing left to do. `leave` may change while this sleeps; the bell of
    /// [`Play::bell`] is rung then.
    fn play(&mut self, leave: &dyn Fn() -> bool);

    /// Wakes `play` from its sleep.
    fn bell(&self) -> Wake;
}

/// The loop of a rank, its player and perhaps an understudy.
pub(super) struct Stage<P: Play> {
    /// None once it is closed.
    shared: Option<Arc<Shared<P>>>,
    bell: Wake,
    understudy: Option<JoinHandle<()>>,
}

struct Shared<P> {
    play: Mutex<P>,
    /// The player wants to go on himself.
    wanted: AtomicBool,
    /// The understudy is on.
    stands_in: AtomicBool,
    /// How often the player left.
    departures: AtomicU64,
    over: AtomicBool,
}

impl<P: Play> Stage<P> {
    /// With an understudy or, where only one thread may play and there is no `patience`, without. The understudy goes on when the player has been away
    /// for `patience`, or for twice that at most.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn new(play: P, patience: Option<Duration>) -> std::io::Result<Self> {
        let bell = play.bell();
        let shared = Arc::new(Shared {
            play: Mutex::new(play),
            wanted: AtomicBool::new(false),
            stands_in: AtomicBool::new(false),
            departures: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let stand_in = |patience| {
            let shared = shared.clone();
            let builder = std::thread::Builder::new().name("understudy".to_owned());
            builder.spawn(move || understudy(&shared, patience))
        };
        let understudy = patience.map(stand_in).transpose()?;
        Ok(Self { shared: Some(shared), bell, understudy })
    }

    /// The player goes on. The understudy leaves at once, where it is on.
    pub(super) fn enter(&self) -> OnStage<'_, P> {
        let shared = self.shared.as_ref().expect("it is closed once, by value");
        shared.wanted.store(true, Ordering::SeqCst);
        if shared.stands_in.load(Ordering::SeqCst) {
            self.bell.wake();
        }
        let play = shared.play.lock().unwrap_or_else(PoisonError::into_inner);
        shared.wanted.store(false, Ordering::SeqCst);
        OnStage { play, departures: &shared.departures }
    }

    /// The play is over; gives back what was played.
    pub(super) fn close(mut self) -> P {
        self.dismiss();
        let shared = self.shared.take().and_then(Arc::into_inner).expect("the understudy is gone");
        shared.play.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the understudy.
    fn dismiss(&mut self) {
        if let Some(shared) = &self.shared {
            shared.over.store(true, Ordering::SeqCst);
            shared.wanted.store(true, Ordering::SeqCst);
        }
        self.bell.wake();
        if let Some(understudy) = self.understudy.take() {
            understudy.thread().unpark();
            let _ = understudy.join();
        }
    }
}

impl<P: Play> Drop for Stage<P> {
    /// A player who panics leaves nobody behind who goes on talking.
    fn drop(&mut self) {
        self.dismiss();
    }
}

/// The player is on; dropping it leaves.
pub(super) struct OnStage<'a, P> {
    play: MutexGuard<'a, P>,
    departures: &'a AtomicU64,
}

impl<P> std::ops::Deref for OnStage<'_, P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.play
    }
}

impl<P> std::ops::DerefMut for OnStage<'_, P> {
    fn deref_mut(&mut self) -> &mut P {
        &mut self.play
    }
}

impl<P> Drop for OnStage<'_, P> {
    fn drop(&mut self) {
        self.departures.fetch_add(1, Ordering::Relaxed);
    }
}

fn understudy<P: Play>(shared: &Shared<P>, patience: Duration) {
    let mut seen = 0;
    while !shared.over.load(Ordering::SeqCst) {
        std::thread::park_timeout(patience);
        let departures = shared.departures.load(Ordering::Relaxed);
        // He was there since the last look.
        if std::mem::replace(&mut seen, departures) != departures {
            continue;
        }
        let mut play = match shared.play.try_lock() {
            Ok(play) => play,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => continue,
        };
        // Whoever wants to go on sees this, or is seen below.
        shared.stands_in.store(true, Ordering::SeqCst);
        let leave = || shared.wanted.load(Ordering::SeqCst);
        if !leave() && catch_unwind(AssertUnwindSafe(|| play.play(&leave))).is_err() {
            // It has said why. The other ranks would wait for this one for ever; its end is what they notice.
            std::process::abort();
        }
        shared.stands_in.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const PATIENCE: Duration = Duration::from_millis(3);

    /// Counts its turns, and by whom they were made.
    struct Turns {
        bell: Wake,
        turns: u64,
        threads: std::collections::HashSet<std::thread::ThreadId>,
    }

    impl Turns {
        fn new() -> Self {
            Self { bell: Wake::new().unwrap(), turns: 0, threads: Default::default() }
        }
    }

    impl Play for Turns {
        fn play(&mut self, leave: &dyn Fn() -> bool) {
            while !leave() {
                self.bell.clear();
                self.turns += 1;
                self.threads.insert(std::thread::current().id());
                if leave() {
                    break;
                }
                let mut bell =
                    libc::pollfd { fd: std::os::fd::AsRawFd::as_raw_fd(&self.bell), events: libc::POLLIN, revents: 0 };
                // SAFETY: one live entry.
                unsafe { libc::poll(&mut bell, 1, 10_000) };
            }
        }

        fn bell(&self) -> Wake {
            self.bell.clone()
        }
    }

    #[test]
    fn an_understudy_goes_on_for_a_player_who_stays_away_and_leaves_when_he_comes_back() {
        let stage = Stage::new(Turns::new(), Some(PATIENCE)).unwrap();
        for round in 1..=3 {
            let deadline = Instant::now() + Duration::from_secs(30);
            while !stage.shared.as_ref().unwrap().stands_in.load(Ordering::SeqCst) {
                assert!(Instant::now() < deadline, "nobody goes on in round {round}");
                std::thread::sleep(Duration::from_millis(1));
            }
            // It would sleep for ten seconds.
            let before = Instant::now();
            let play = stage.enter();
            assert!(before.elapsed() < Duration::from_secs(5), "it leaves when it is told to");
            assert!(play.turns >= round && !play.threads.contains(&std::thread::current().id()));
        }
        assert_eq!(stage.close().threads.len(), 1);
    }

    #[test]
    fn nobody_goes_on_for_a_player_who_comes_and_goes() {
        let stage = Stage::new(Turns::new(), Some(PATIENCE)).unwrap();
        let end = Instant::now() + 10 * PATIENCE;
        let mut entered = 0;
        while Instant::now() < end {
            stage.enter().turns += 1;
            entered += 1;
        }
        // Where the machine takes this thread away for long, it is away.
        assert!(entered > 100 && stage.close().turns <= entered + entered / 10 + 10);
    }

    #[test]
    fn without_an_understudy_nothing_goes_on() {
        let stage = Stage::new(Turns::new(), None).unwrap();
        std::thread::sleep(3 * PATIENCE);
        assert_eq!(stage.close().turns, 0);
    }
}
