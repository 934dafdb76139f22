//! The states of the chip's firmware, and of its self-test.

codes! {
    /// What the control core is doing, in STATUS and in the vital signs.
    pub enum State: u8 {
        /// The boot ROM looks for a loader.
        Rom = 1,
        /// The loader waits for an image; the admin queue takes identity, logs and firmware commands.
        Loader = 2,
        /// An image is verified and started.
        Booting = 3,
        /// The runtime serves all commands; the heartbeat counts.
        Running = 4,
        /// The runtime stopped on a fault.
        Faulted = 5,
        /// A reset is under way.
        Resetting = 6,
    }
}

codes! {
    /// Outcome of the last self-test.
    pub enum SelfTest: u8 {
        /// Never run since power-on.
        NotRun = 0,
        /// Under way.
        Running = 1,
        /// All patterns and known answers were right.
        Passed = 2,
        /// A pattern or a known answer was wrong.
        Failed = 3,
    }
}
