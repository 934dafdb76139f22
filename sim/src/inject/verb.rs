//! The faults.

use super::catalogue::{Entry, verbs};

verbs! {
    /// What can be made to happen. How each looks from outside is in [`Verb::CATALOGUE`].
    #[non_exhaustive]
    pub enum Verb {
        // Completions.
        /// A completion is not posted.
        #[looks = "the command times out, and its abort finds no such command; what comes after it completes"]
        CompletionDrop = "completion-drop" (Chip, Completion),
        /// A completion is posted late, after others that were behind it.
        #[looks = "the command takes that long"]
        CompletionDelay = "completion-delay" (Chip, Completion) {
            /// For how many milliseconds.
            ms: u64 = 100,
        },
        /// A completion is posted twice.
        #[looks = "the second is counted as a stray"]
        CompletionDuplicate = "completion-duplicate" (Chip, Completion),
        /// A completion has a status that does not exist.
        #[looks = "the command ends in a malformed completion"]
        CompletionCorrupt = "completion-corrupt" (Chip, Completion),
        /// A completion names a command that is not in flight.
        #[looks = "a stray is counted; the command times out, and its abort finds no such command"]
        CompletionWrongId = "completion-wrong-id" (Chip, Completion),
        /// A completion names another queue.
        #[looks = "a stray is counted; the command and those behind it time out until the queue is reset"]
        CompletionWrongQueue = "completion-wrong-queue" (Chip, Completion),
        /// A completion of a former life of the queue is written where the next one belongs, which follows later.
        #[looks = "a stray is counted; the command takes that long"]
        CompletionStaleTag = "completion-stale-tag" (Chip, Completion) {
            /// After how many milliseconds the right one follows.
            ms: u64 = 20,
        },
        /// A completion is posted behind the next one.
        #[looks = "outcomes come in another order; a lone command waits for the next one"]
        CompletionReorder = "completion-reorder" (Chip, Completion),

        // Interrupts.
        /// An interrupt of an I/O queue is not fired.
        #[looks = "a wait that sleeps finds the completion at its next look, milliseconds late"]
        InterruptLost = "interrupt-lost" (Chip, Interrupt),
        /// An interrupt fires without a reason.
        #[looks = "a wait that sleeps wakes, finds nothing and sleeps on"]
        InterruptSpurious = "interrupt-spurious" (Chip, Now) {
            /// The MSI-X vector: 0 for events, n for I/O queue n.
            vector: u16 = 1,
        },
        /// An interrupt fires over and over.
        #[looks = "waits that sleep wake often; work goes on"]
        InterruptStorm = "interrupt-storm" (Chip, Now) {
            /// The MSI-X vector: 0 for events, n for I/O queue n.
            vector: u16 = 1,
            /// For how many milliseconds; 0 is until it is healed.
            for_ms: u64 = 1000,
        },

        // Queues.
        /// A doorbell is not seen, until it moves again.
        #[looks = "the commands it told of time out, unless others follow"]
        DoorbellIgnored = "doorbell-ignored" (Chip, Doorbell),
        /// A queue stands still: nothing is fetched from it, what it works on does not go on.
        #[looks = "its commands time out; other queues work; resetting the queue ends it"]
        QueueStuck = "queue-stuck" (Chip, Now) {
            /// Its number, from 1.
            number: u16 = 1,
            /// For how many milliseconds; 0 is until it is healed or deleted.
            for_ms: u64 = 0,
        },

        // Data.
        /// The DMA of a copy, fill or launch goes to an address that is not mapped.
        #[looks = "the command ends in DmaFault"]
        DmaUnmapped = "dma-unmapped" (Chip, Command),
        /// A copy or a fill moves half of its bytes and says that it moved all.
        #[looks = "success, and the second half of the destination is as it was"]
        DmaShort = "dma-short" (Chip, Command),
        /// A bit of what a copy has written flips.
        #[looks = "success, and one wrong bit: only a checksum finds it"]
        CopyFlip = "copy-flip" (Chip, Command),
        /// A bit of what a matrix product has written flips: silent corruption.
        #[looks = "success, and one wrong bit: only a known answer finds it"]
        ResultFlip = "result-flip" (Chip, Command),

        // Memory.
        /// Correctable memory errors.
        #[looks = "ecc_ce grows; event EccCorrectable"]
        EccCe = "ecc-ce" (Chip, Now) {
            /// How many.
            count: u32 = 1,
        },
        /// An uncorrectable error in memory that is in use: the chip stops, and what runs ends in an error.
        #[looks = "the running or next command ends in EccUncorrectable, later ones in DeviceFaulted, until the firmware is restarted; ecc_ue, last fault, crash log"]
        EccUe = "ecc-ue" (Chip, Now),
        /// An uncorrectable error in memory that nobody uses, found by the patrol scrubber.
        #[looks = "ecc_ue grows, event EccUncorrectable; work goes on, and the next start of the firmware retires the page"]
        EccUeUnused = "ecc-ue-unused" (Chip, Now),
        /// Pages of device memory are retired.
        #[looks = "retired_pages grows; event PageRetired"]
        PageRetired = "page-retired" (Chip, Now) {
            /// How many.
            count: u32 = 1,
        },

        // Sensors.
        /// The die has this temperature.
        #[looks = "die_temperature; from 95 degrees on the thermal throttle reason; at 105 the chip stops on OverTemperature"]
        Temperature = "temperature" (Chip, Now) {
            /// Degrees Celsius.
            celsius: i32 = 110,
            /// For how many milliseconds; 0 is until it is healed.
            for_ms: u64 = 0,
        },
        /// The chip throttles by heat.
        #[looks = "the thermal throttle reason, at a temperature that does not give it"]
        Throttle = "throttle" (Chip, Now) {
            /// For how many milliseconds; 0 is until it is healed.
            for_ms: u64 = 0,
        },
        /// The board's supply caps the chip's power.
        #[looks = "the supply throttle reason"]
        PowerCap = "power-cap" (Chip, Now) {
            /// For how many milliseconds; 0 is until it is healed.
            for_ms: u64 = 0,
        },
        /// The sensors show for ever what they show now.
        #[looks = "temperatures and power do not move, whatever the chip does"]
        SensorStuck = "sensor-stuck" (Chip, Now) {
            /// For how many milliseconds; 0 is until it is healed.
            for_ms: u64 = 0,
        },
        /// The sensors show what cannot be.
        #[looks = "temperatures of -3276.8 degrees, power beyond the board's limit"]
        SensorNonsense = "sensor-nonsense" (Chip, Now) {
            /// For how many milliseconds; 0 is until it is healed.
            for_ms: u64 = 0,
        },

        // Firmware.
        /// The firmware hangs.
        #[looks = "heartbeat and queues stand still, the state stays Running; after 5 s the watchdog makes it Faulted"]
        FirmwareHang = "firmware-hang" (Chip, Now),
        /// The firmware crashes.
        #[looks = "Faulted with FirmwareCrash, and a crash log; queues stand still until the firmware is restarted"]
        FirmwareCrash = "firmware-crash" (Chip, Now),
        /// The firmware crashes as soon as it starts. Waits for the next start, and crashes it now.
        #[looks = "Faulted with FirmwareCrash after each restart"]
        BootLoop = "boot-loop" (Chip, Boot),
        /// The boot refuses the image in its slot.
        #[looks = "a restart ends in the loader, with the fault ImageRejected; installing an image and another restart end it"]
        ImageRefused = "image-refused" (Chip, Boot),
        /// The image in a firmware slot rots.
        #[looks = "the next boot from that slot ends in the loader, with the fault ImageRejected"]
        ImageRot = "image-rot" (Chip, Now) {
            /// The slot.
            slot: u8 = 0,
        },
        /// The boot takes longer.
        #[looks = "Booting for that long; beyond the time that the chip advertises a restart times out"]
        SlowBoot = "slow-boot" (Chip, Boot) {
            /// By how many milliseconds.
            ms: u64 = 1000,
        },

        // Resets.
        /// A reset of the function does not end.
        #[looks = "the reset times out, and all reads are ones meanwhile"]
        ResetHang = "reset-hang" (Chip, Reset) {
            /// For how many milliseconds; 0 is until it is healed.
            for_ms: u64 = 0,
        },
        /// A reset of the function ends, and the chip is dead.
        #[looks = "all reads are ones from then on"]
        ResetDead = "reset-dead" (Chip, Reset),
        /// A reset of the function ends with the chip still resetting; another one heals it.
        #[looks = "the state stays Resetting, so that the reset times out; the next one works"]
        ResetFails = "reset-fails" (Chip, Reset),

        // The bus.
        /// Reads of the BARs are all ones, and writes are lost.
        #[looks = "registers read ffffffff while config space is as ever"]
        BarOnes = "bar-ones" (Chip, Now) {
            /// For how many milliseconds; 0 is until it is healed.
            for_ms: u64 = 0,
        },
        /// The chip has fallen off the bus: config space and BARs read all ones, and DMA has stopped.
        #[looks = "config and registers read ffffffff; commands stand still"]
        ConfigOnes = "config-ones" (Chip, Now) {
            /// For how many milliseconds; 0 is until it is healed.
            for_ms: u64 = 0,
        },
        /// Trapped register accesses take longer.
        #[looks = "opening, resets and admin work are slow; doorbells are not"]
        SlowRegisters = "slow-registers" (Chip, Now) {
            /// By how many milliseconds each.
            ms: u64 = 5,
            /// For how many milliseconds; 0 is until it is healed.
            for_ms: u64 = 0,
        },
        /// The PCIe link trains to so many lanes; as many as the slot has heals it.
        #[looks = "LNKSTA and current_link_width at both ends; event LinkChanged"]
        LinkWidth = "link-width" (Device, Now) {
            /// How many: 1, 2, 4 and so on.
            lanes: u8,
        },
        /// The PCIe link trains to another speed; the slot's own heals it.
        #[looks = "LNKSTA and current_link_speed at both ends; event LinkChanged"]
        LinkSpeed = "link-speed" (Device, Now) {
            /// The generation: 1 is 2.5 GT/s, 5 is 32 GT/s.
            generation: u8,
        },
        /// The PCIe link goes down and comes back; the chip keeps what it has.
        #[looks = "reads of all ones while it is down"]
        LinkFlap = "link-flap" (Chip, Now) {
            /// How often.
            count: u32 = 1,
            /// For how many milliseconds each time, and as long between two.
            down_ms: u64 = 50,
        },
        /// Correctable PCIe errors.
        #[looks = "aer_dev_correctable (BadTLP), and the root port's total"]
        AerCorrectable = "aer-correctable" (Device, Now) {
            /// How many.
            count: u32 = 1,
        },
        /// Uncorrectable PCIe errors that are not fatal.
        #[looks = "aer_dev_nonfatal (CmpltTO), and the root port's total"]
        AerNonfatal = "aer-nonfatal" (Device, Now) {
            /// How many.
            count: u32 = 1,
        },
        /// Fatal PCIe errors.
        #[looks = "aer_dev_fatal (DLP), and the root port's total"]
        AerFatal = "aer-fatal" (Device, Now) {
            /// How many.
            count: u32 = 1,
        },
        /// The PCIe link replays transactions.
        #[looks = "pcie_replays grows"]
        Replays = "replays" (Chip, Now) {
            /// How many.
            count: u32 = 1,
        },
        /// The device is pulled out.
        #[looks = "its directory and its socket vanish; who has a chip open is disconnected, its config file reads ones"]
        Remove = "remove" (Device, Now),
        /// A device that was pulled out is put back: a chip as after power-on, with what it keeps without power.
        #[looks = "directory and socket are there again"]
        Return = "return" (Device, Now),
        /// The simulated host's process is killed.
        #[looks = "who has a chip open is disconnected; the tree stays as it was, and nothing in it moves"]
        ProcessKill = "process-kill" (Device, Now),

        // NICs.
        /// A NIC loses its carrier and gets it back.
        #[looks = "carrier and its counts, operstate, speed"]
        CarrierFlap = "carrier-flap" (Nic, Now) {
            /// How often.
            count: u32 = 1,
            /// For how many milliseconds each time, and as long between two.
            down_ms: u64 = 500,
        },
        /// A NIC's port negotiates another speed.
        #[looks = "speed"]
        PortSpeed = "port-speed" (Nic, Now) {
            /// Mb/s; 400000 heals it.
            mbit: u32,
        },
        /// Frames come in damaged.
        #[looks = "statistics/rx_crc_errors and rx_errors"]
        PortErrors = "port-errors" (Nic, Now) {
            /// How many.
            count: u32 = 1,
        },
        /// Packets are dropped.
        #[looks = "statistics/rx_dropped"]
        PortDrops = "port-drops" (Nic, Now) {
            /// How many.
            count: u32 = 1,
        },
        /// The RDMA port goes down though the carrier is there.
        #[looks = "state, phys_state and hw_counters/link_downed of its RDMA port"]
        RdmaPort = "rdma-port" (Nic, Now) {
            /// It follows the carrier again instead.
            up: bool = false,
        },
        /// The driver is loaded anew: what it counted begins at zero.
        #[looks = "the counts of the carrier, statistics/*, hw_counters/link_downed"]
        DriverReload = "driver-reload" (Nic, Now),
        /// The interface gets another name.
        #[looks = "another directory in sys/class/net, of the same PCI address"]
        InterfaceRename = "interface-rename" (Nic, Now) {
            /// Its new name.
            name: String,
        },
        /// The firmware is another one than before.
        #[looks = "fw_ver of its RDMA device"]
        NicFirmware = "nic-firmware" (Nic, Now) {
            /// As the driver would say it.
            firmware: String,
        },

        // All.
        /// Ends every fault of the device that lasts or waits. What has happened stays so.
        #[looks = "as before"]
        Heal = "heal" (Device, Now),
    }
}

impl Verb {
    /// Its entry in the catalogue.
    #[must_use]
    pub fn entry(&self) -> &'static Entry {
        let name = self.name();
        // Both come from one table.
        Self::CATALOGUE
            .iter()
            .find(|entry| entry.name == name)
            .unwrap_or(&Self::CATALOGUE[0])
    }
}
