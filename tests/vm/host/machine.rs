//! A virtual machine as QEMU's command line.

use std::path::{Path, PathBuf};

use auk_vm::{E1000E_MAC, NVME_SERIAL};
use serde_json::json;

use crate::boots::{Boot, Extra, Iommu};

/// Bytes of the NVMe disk.
pub(crate) const DISK: u64 = 64 << 20;

/// The files and sockets of one machine.
pub(crate) struct Machine<'a> {
    pub(crate) boot: &'a Boot,
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// Where the sockets are; a short path, as sockets need it.
    pub(crate) run: &'a Path,
    /// The sockets of our chips.
    pub(crate) chips: &'a [PathBuf],
    /// A file of [`DISK`] bytes.
    pub(crate) disk: &'a Path,
    /// Takes what the kernel says.
    pub(crate) console: &'a Path,
    /// Takes what QEMU says.
    pub(crate) log: &'a Path,
}

impl Machine<'_> {
    /// The socket on which the host waits for the guest's second serial port.
    pub(crate) fn port(&self) -> PathBuf {
        self.run.join("port")
    }

    /// The socket of QEMU's monitor.
    pub(crate) fn monitor(&self) -> PathBuf {
        self.run.join("qmp")
    }

    /// The whole command line but the program.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut line = CommandLine::default();
        self.describe_board(&mut line);
        // The IOMMU comes first: QEMU asks it when it makes the others.
        match self.boot.iommu {
            // Without caching-mode the guest does not tell what it maps, and QEMU gives up.
            Iommu::Intel => line.device("intel-iommu,intremap=on,caching-mode=on"),
            Iommu::Amd => line.device("amd-iommu,dma-remap=on,intremap=on"),
            Iommu::Virtio => line.device("virtio-iommu-pci"),
            Iommu::None => {}
        }
        for (number, socket) in self.chips.iter().enumerate() {
            let speed = if self.boot.slow_ports {
                ",x-speed=5"
            } else {
                ""
            };
            let bus = line.root_port_with(&format!("port{number}"), speed);
            line.device(&vfio_user(&format!("chip{number}"), &bus, socket));
        }
        for extra in self.boot.extras {
            self.plug_in(*extra, &mut line);
        }
        line.words
    }

    fn describe_board(&self, line: &mut CommandLine) {
        let path = |path: &Path| path.display().to_string();
        line.words
            .extend(["-nodefaults", "-no-reboot"].map(str::to_owned));
        line.option("-display", "none");
        line.option("-accel", "tcg,thread=multi");
        line.option("-cpu", "max");
        line.option("-smp", "2");
        let memory = self.boot.memory;
        line.option("-m", &format!("{memory}M"));
        // The simulator maps the guest's memory: it must be shared, and a memfd, which can be sealed.
        let backend = format!("memory-backend-memfd,id=ram,size={memory}M,share=on");
        line.option("-object", &backend);
        line.option("-machine", "q35,kernel-irqchip=split,memory-backend=ram");
        line.option("-kernel", &path(self.kernel));
        line.option("-initrd", &path(self.initramfs));
        // The kernel's check of its timer interrupt panics where emulation has no processor for a moment.
        let append = format!(
            "console=ttyS0 panic=-1 no_timer_check hugepages={} {}",
            self.boot.huge_pages,
            self.boot.append()
        );
        line.option("-append", &append);
        line.option("-serial", &format!("file:{}", path(self.console)));
        line.option("-serial", &format!("unix:{}", path(&self.port())));
        let monitor = format!("unix:{},server=on,wait=off", path(&self.monitor()));
        line.option("-qmp", &monitor);
    }

    fn plug_in(&self, extra: Extra, line: &mut CommandLine) {
        match extra {
            Extra::Edu => line.device("edu,id=edu"),
            Extra::Nvme => {
                let file = self.disk.display();
                line.option("-drive", &format!("if=none,id=disk,format=raw,file={file}"));
                let bus = line.root_port("nvme-port");
                line.device(&format!(
                    "nvme,id=nvme,serial={NVME_SERIAL},drive=disk,bus={bus}"
                ));
            }
            Extra::E1000e => {
                // As slow as the function. Of a faster port the kernel waits after a hot reset for what QEMU's does not have: the link to
                // be reported active.
                let bus = line.root_port_with("e1000e-port", ",x-speed=2_5,x-width=1");
                let mac = E1000E_MAC.map(|byte| format!("{byte:02x}")).join(":");
                line.device(&format!("e1000e,id=e1000e,mac={mac},bus={bus}"));
            }
            Extra::RngWithAer => {
                let bus = line.root_port("rng-port");
                // Only behind an IOMMU, and only the modern form is PCI Express.
                line.device(&format!(
                    "virtio-rng-pci,id=rng,aer=on,disable-legacy=on,iommu_platform=on,bus={bus}"
                ));
            }
            Extra::VirtioNet => {
                line.option("-netdev", "hubport,id=net,hubid=0");
                line.device("virtio-net-pci,netdev=net");
            }
            Extra::SharedSlot => {
                // QEMU's ports never say that a link is up that the machine began with, and from 8 GT/s on the kernel waits for
                // that after a hot reset.
                let bus = line.root_port_with("shared-port", ",x-speed=5");
                line.device(&format!(
                    "e1000e,id=shared-e1000e,bus={bus},multifunction=on,addr=0.0"
                ));
                line.device(&format!("edu,id=shared-edu,bus={bus},addr=0.1"));
            }
            Extra::EmptyPort => {
                line.root_port("empty");
            }
        }
    }
}

/// A chip as an argument of `-device`.
fn vfio_user(id: &str, bus: &str, socket: &Path) -> String {
    json!({
        "driver": "vfio-user-pci",
        "id": id,
        "bus": bus,
        "socket": { "type": "unix", "path": socket.display().to_string() },
    })
    .to_string()
}

#[derive(Default)]
struct CommandLine {
    words: Vec<String>,
    ports: usize,
}

impl CommandLine {
    fn option(&mut self, option: &str, value: &str) {
        self.words.extend([option.to_owned(), value.to_owned()]);
    }

    fn device(&mut self, device: &str) {
        self.option("-device", device);
    }

    /// One more root port, in the order of the addresses that its function will have; its name.
    fn root_port(&mut self, name: &str) -> String {
        self.root_port_with(name, "")
    }

    /// As [`Self::root_port`], with more properties.
    fn root_port_with(&mut self, name: &str, properties: &str) -> String {
        self.ports += 1;
        let (chassis, slot) = (self.ports, 3 + self.ports);
        self.device(&format!(
            "pcie-root-port,id={name},chassis={chassis},addr={slot:#x}{properties}"
        ));
        name.to_owned()
    }
}
