//! The RDMA device of a NIC: the directory `infiniband/mlx5_N` of its function, with one port that follows the carrier.
//!
//! Names and formats are those of `drivers/infiniband/core/sysfs.c` and `Documentation/ABI/stable/sysfs-class-infiniband`. It
//! counts what the kernel's soft-RDMA counts, for that is what was recorded.

use super::attributes::Attribute;
use super::error::HostError;
use super::files::{Files, READ_ONLY, READ_WRITE};

/// Names of files that are not directly in the directory of the port.
const GIDS: usize = 4;
const COUNTERS: [&str; 15] = [
    "ack_deferred",
    "completer_retry_err",
    "duplicate_request",
    "link_downed",
    "out_of_seq_request",
    "rcvd_pkts",
    "rcvd_rnr_err",
    "rcvd_seq_err",
    "rdma_recvs",
    "rdma_sends",
    "retry_exceeded_err",
    "retry_rnr_exceeded_err",
    "send_err",
    "send_rnr_err",
    "sent_pkts",
];

/// An RDMA device whose directories exist.
pub(crate) struct Rdma {
    files: Files,
    name: String,
    directory: String,
    port: String,
    firmware: String,
    shown_firmware: String,
    /// The texts that follow the link, as the files hold them.
    shown: [Attribute; 2],
    shown_downs: u64,
    /// Times that its link went.
    downs: u64,
    up: bool,
}

impl Rdma {
    /// Makes the device of a NIC in the directory of its function.
    pub(crate) fn create(
        files: &Files,
        function: &str,
        index: usize,
        speed: u32,
    ) -> Result<Self, HostError> {
        let name = format!("mlx5_{index}");
        let directory = format!("{function}/infiniband/{name}");
        let port = format!("{directory}/ports/1");
        files.directory(&format!("{port}/gids"))?;
        files.directory(&format!("{port}/hw_counters"))?;
        let guid = format!("02a1:00ff:fe00:{index:04x}");
        let gigabits = speed / 1000;
        let shown = link(true);
        let description = format!("{directory}/node_desc");
        files.create(&description, READ_WRITE, format!("{name}\n").as_bytes())?;
        for (name, text) in [
            // That of the kernel's soft-RDMA.
            ("fw_ver", "\n".to_owned()),
            ("node_guid", format!("{guid}\n")),
            ("node_type", "1: CA\n".to_owned()),
            ("sys_image_guid", format!("{guid}\n")),
            ("ports/1/cap_mask", "0x00010000\n".to_owned()),
            ("ports/1/lid", "0x0\n".to_owned()),
            ("ports/1/lid_mask_count", "0\n".to_owned()),
            ("ports/1/link_layer", "Ethernet\n".to_owned()),
            ("ports/1/rate", format!("{gigabits} Gb/sec (4X NDR)\n")),
            ("ports/1/sm_lid", "0x0\n".to_owned()),
            ("ports/1/sm_sl", "0\n".to_owned()),
        ] {
            let path = format!("{directory}/{name}");
            files.create(&path, READ_ONLY, text.as_bytes())?;
        }
        for (name, mode, text) in &shown {
            files.create(&format!("{port}/{name}"), *mode, text.as_bytes())?;
        }
        for gid in 0..GIDS {
            // The first is the link-local address of the interface.
            let text = match gid {
                0 => format!("fe80:0000:0000:0000:{guid}\n"),
                _ => "0000:0000:0000:0000:0000:0000:0000:0000\n".to_owned(),
            };
            files.create(&format!("{port}/gids/{gid}"), READ_ONLY, text.as_bytes())?;
        }
        for counter in COUNTERS {
            let path = format!("{port}/hw_counters/{counter}");
            files.create(&path, READ_ONLY, b"0\n")?;
        }
        let below_sys = directory.strip_prefix("sys/").unwrap_or(&directory);
        files.link(
            &format!("sys/class/infiniband/{name}"),
            &format!("../../{below_sys}"),
        )?;
        Ok(Self {
            files: files.clone(),
            name,
            directory,
            port,
            firmware: String::new(),
            shown_firmware: String::new(),
            shown,
            shown_downs: 0,
            downs: 0,
            up: true,
        })
    }

    /// Its link is up or not from now on.
    pub(crate) fn follow(&mut self, up: bool) {
        self.downs += u64::from(self.up && !up);
        self.up = up;
    }

    /// It is found no more.
    pub(crate) fn unlist(&self) -> Result<(), HostError> {
        self.files
            .remove(&format!("sys/class/infiniband/{}", self.name))
    }

    /// Its firmware is another one.
    pub(crate) fn set_firmware(&mut self, version: &str) {
        version.clone_into(&mut self.firmware);
    }

    /// Counts from zero again, as when its driver is loaded anew.
    pub(crate) fn reload(&mut self) {
        self.downs = 0;
    }

    /// Has the files follow.
    pub(crate) fn refresh(&mut self) -> Result<(), HostError> {
        if self.shown_downs != self.downs {
            let path = format!("{}/hw_counters/link_downed", self.port);
            let text = format!("{}\n", self.downs);
            self.files.replace(&path, READ_ONLY, text.as_bytes())?;
            self.shown_downs = self.downs;
        }
        if self.shown_firmware != self.firmware {
            let path = format!("{}/fw_ver", self.directory);
            let text = format!("{}\n", self.firmware);
            self.files.replace(&path, READ_ONLY, text.as_bytes())?;
            self.shown_firmware.clone_from(&self.firmware);
        }
        for (shown, now) in self.shown.iter_mut().zip(link(self.up)) {
            if *shown != now {
                let (name, mode, text) = &now;
                let path = format!("{}/{name}", self.port);
                self.files.replace(&path, *mode, text.as_bytes())?;
                *shown = now;
            }
        }
        Ok(())
    }
}

fn link(up: bool) -> [Attribute; 2] {
    let (physical, state) = match up {
        true => ("5: LinkUp\n", "4: ACTIVE\n"),
        false => ("2: Polling\n", "1: DOWN\n"),
    };
    [
        ("phys_state", READ_ONLY, physical.into()),
        ("state", READ_ONLY, state.into()),
    ]
}
