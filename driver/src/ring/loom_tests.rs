//! Parking and arming under every interleaving and every order that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p auk-driver --release --lib loom_`

use auk_asic::doorbell::Arm;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;

use super::{SharedWords, arm_and_look, publish};

/// The words that driver and chip share, and whether the chip was kicked or the driver interrupted.
#[derive(Default)]
struct Words {
    tail: AtomicU32,
    arm: AtomicU32,
    park: AtomicU32,
    /// The completions posted: what the phase bits of the ring say.
    posted: AtomicU32,
    fired: AtomicU32,
}

/// The driver's side without its full fences, to show that the tests would notice.
struct Unfenced<'a>(&'a Words);

impl SharedWords for Words {
    fn store_tail(&self, tail: u32) {
        self.tail.store(tail, Ordering::Release);
    }

    fn store_arm(&self, arm: Arm) {
        self.arm.store(arm.into_bits(), Ordering::Release);
    }

    fn load_park(&self) -> u32 {
        self.park.load(Ordering::Relaxed)
    }

    fn full_fence(&self) {
        fence(Ordering::SeqCst);
    }
}

impl SharedWords for Unfenced<'_> {
    fn store_tail(&self, tail: u32) {
        self.0.store_tail(tail);
    }

    fn store_arm(&self, arm: Arm) {
        self.0.store_arm(arm);
    }

    fn load_park(&self) -> u32 {
        self.0.load_park()
    }

    fn full_fence(&self) {}
}

/// The chip goes to sleep as `docs/hardware.md` says. Whether it sleeps on without having seen the doorbell.
fn chip_parks(words: &Words) -> bool {
    words.park.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if words.tail.load(Ordering::Acquire) != 0 {
        words.park.store(0, Ordering::Relaxed);
        return false;
    }
    true
}

/// The chip posts its one completion, and fires if it is armed.
fn chip_completes(words: &Words) {
    words.posted.store(1, Ordering::Release);
    fence(Ordering::SeqCst);
    if Arm::from_bits(words.arm.load(Ordering::Acquire)).armed() {
        words.fired.store(1, Ordering::Release);
    }
}

fn armed() -> Arm {
    Arm::new().with_sequence(1).with_armed(true)
}

#[test]
fn loom_a_parking_chip_sees_the_doorbell_or_is_kicked() {
    loom::model(|| {
        let words = Arc::new(Words::default());
        let chip = thread::spawn({
            let words = Arc::clone(&words);
            move || chip_parks(&words)
        });
        let kicked = publish(&*words, 1, true);
        let asleep = chip.join().unwrap();
        assert!(!asleep || kicked, "the chip sleeps and nobody wakes it");
    });
}

#[test]
#[should_panic(expected = "nobody wakes it")]
fn loom_without_the_fence_a_parking_chip_can_be_left_asleep() {
    loom::model(|| {
        let words = Arc::new(Words::default());
        let chip = thread::spawn({
            let words = Arc::clone(&words);
            move || chip_parks(&words)
        });
        let kicked = publish(&Unfenced(&words), 1, true);
        let asleep = chip.join().unwrap();
        assert!(!asleep || kicked, "the chip sleeps and nobody wakes it");
    });
}

#[test]
fn loom_a_driver_that_sleeps_is_interrupted() {
    loom::model(|| {
        let words = Arc::new(Words::default());
        let chip = thread::spawn({
            let words = Arc::clone(&words);
            move || chip_completes(&words)
        });
        let seen = arm_and_look(&*words, armed(), || {
            words.posted.load(Ordering::Acquire) != 0
        });
        chip.join().unwrap();
        let fired = words.fired.load(Ordering::Acquire) != 0;
        assert!(seen || fired, "the driver sleeps and nobody wakes it");
    });
}

#[test]
#[should_panic(expected = "nobody wakes it")]
fn loom_without_the_fence_a_driver_can_be_left_asleep() {
    loom::model(|| {
        let words = Arc::new(Words::default());
        let chip = thread::spawn({
            let words = Arc::clone(&words);
            move || chip_completes(&words)
        });
        let seen = arm_and_look(&Unfenced(&words), armed(), || {
            words.posted.load(Ordering::Acquire) != 0
        });
        chip.join().unwrap();
        let fired = words.fired.load(Ordering::Acquire) != 0;
        assert!(seen || fired, "the driver sleeps and nobody wakes it");
    });
}
