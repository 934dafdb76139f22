//! Registers, commands and status codes of an NVMe controller: NVM Express, revision 1.0e, whose sections are cited. They are the
//! same in later revisions.

/// Controller Capabilities, 64 bits. Section 3.1.1.
pub(super) const CAP: usize = 0x00;
/// Version. Section 3.1.2.
pub(super) const VS: usize = 0x08;
/// Controller Configuration. Section 3.1.5.
pub(super) const CC: usize = 0x14;
/// Controller Status. Section 3.1.6.
pub(super) const CSTS: usize = 0x1C;
/// Admin Queue Attributes. Section 3.1.7.
pub(super) const AQA: usize = 0x24;
/// Admin Submission Queue Base Address, 64 bits. Section 3.1.8.
pub(super) const ASQ: usize = 0x28;
/// Admin Completion Queue Base Address, 64 bits. Section 3.1.9.
pub(super) const ACQ: usize = 0x30;
/// Doorbells begin here. Section 3.1.10.
const DOORBELLS: usize = 0x1000;

/// What is mapped of BAR 0: the registers, and the doorbells of the first queues in the page behind them.
pub(super) const MAPPED: u64 = 0x2000;

/// CC.EN. Section 3.1.5.
pub(super) const CC_EN: u32 = 1;
/// CC.SHN: normal shutdown. Section 3.1.5.
pub(super) const CC_SHN_NORMAL: u32 = 0b01 << 14;
/// CC.IOSQES, CC.IOCQES: entries of 2^6 and 2^4 bytes; all else 0, so that pages have 4 KiB. Section 3.1.5.
pub(super) const CC_ENTRY_SIZES: u32 = 6 << 16 | 4 << 20;

/// CSTS.RDY. Section 3.1.6.
pub(super) const CSTS_RDY: u32 = 1;
/// CSTS.CFS: the controller has failed. Section 3.1.6.
pub(super) const CSTS_CFS: u32 = 1 << 1;
/// CSTS.SHST, and in it: the shutdown is complete. Section 3.1.6.
pub(super) const CSTS_SHST: u32 = 0b11 << 2;
pub(super) const CSTS_SHST_COMPLETE: u32 = 0b10 << 2;

/// The page that CC sets.
pub(super) const PAGE: usize = 4096;
/// Bytes of a submission queue entry. Section 4.2.
pub(super) const COMMAND_BYTES: usize = 64;
/// Bytes of a completion queue entry. Section 4.5.
pub(super) const COMPLETION_BYTES: usize = 16;

/// What CAP says. Section 3.1.1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capabilities(pub(super) u64);

impl Capabilities {
    /// MQES, as a number of entries.
    pub(super) const fn most_entries(self) -> u32 {
        (self.0 & 0xFFFF) as u32 + 1
    }

    /// TO: how long the controller may take to become ready or not ready, in milliseconds.
    pub(super) const fn timeout(self) -> u64 {
        (self.0 >> 24 & 0xFF) * 500
    }

    /// MPSMIN: the smallest page, in bytes.
    pub(super) const fn smallest_page(self) -> usize {
        PAGE << (self.0 >> 48 & 0xF)
    }

    /// The tail doorbell of submission queue `queue`. Section 3.1.10.
    pub(super) const fn submission_tail(self, queue: u16) -> usize {
        DOORBELLS + 2 * queue as usize * self.stride()
    }

    /// The head doorbell of completion queue `queue`. Section 3.1.11.
    pub(super) const fn completion_head(self, queue: u16) -> usize {
        DOORBELLS + (2 * queue as usize + 1) * self.stride()
    }

    /// DSTRD, in bytes.
    const fn stride(self) -> usize {
        4 << (self.0 >> 32 & 0xF)
    }
}

/// Opcodes of admin commands. Section 5, figure 25.
pub(super) mod admin {
    pub(in crate::tests::nvme) const DELETE_SUBMISSION_QUEUE: u8 = 0x00;
    pub(in crate::tests::nvme) const CREATE_SUBMISSION_QUEUE: u8 = 0x01;
    pub(in crate::tests::nvme) const DELETE_COMPLETION_QUEUE: u8 = 0x04;
    pub(in crate::tests::nvme) const CREATE_COMPLETION_QUEUE: u8 = 0x05;
    pub(in crate::tests::nvme) const IDENTIFY: u8 = 0x06;
}

/// Opcodes of NVM commands. Section 6, figure 99.
pub(super) mod nvm {
    pub(in crate::tests::nvme) const WRITE: u8 = 0x01;
    pub(in crate::tests::nvme) const READ: u8 = 0x02;
}

/// CNS of IDENTIFY. Section 5.11.
pub(super) const IDENTIFY_NAMESPACE: u32 = 0;
pub(super) const IDENTIFY_CONTROLLER: u32 = 1;

/// Status codes that commands give themselves: Command Specific, from the bits of the status code type. Section 4.5.1.1.
pub(super) const fn is_command_specific(status: u16) -> bool {
    status >> 8 == 1
}
