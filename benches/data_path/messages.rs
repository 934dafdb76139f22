//! What goes over the socket: register reads, and memory that is mapped and unmapped.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use auk_asic::config::header;
use auk_asic::ident::{Model, ident_register};
use auk_sim::{Chip, ChipProfile, Serving};
use auk_vfio_user::client::{Client, ClientMap, Options};
use auk_vfio_user::model::Protection;
use auk_vfio_user::pci::{BAR0_REGION, CONFIG_REGION};

use crate::pairs::{Bench, Groups};
use crate::processors::Processors;
use crate::report::{Bound, Budget, Row, Unit};
use crate::rig::PATIENCE;
use crate::yardstick::{EventfdRoundTrip, IOVA, MAPPED, VfioUserCrate, host_memory};

/// The design's reference is libvfio-user, which nobody packages; the `vfio_user` crate, in the same run, stands in for it.
const BESIDE_OTHERS: Budget = Budget::Ratio(Bound::AtLeast(1.2));

const LEAST: Groups = Groups {
    number: 64,
    size: 1,
};

pub(crate) fn measure(bench: &mut Bench) {
    let two = bench.processors;
    let one = two.one();
    let mut plain = Plain::new(two);
    bench.pair(
        Row {
            what: "register read, two CPUs",
            unit: Unit::ThousandsPerSecond,
            least: LEAST,
            reference: Some("eventfds"),
            budget: Budget::Ratio(Bound::AtLeast(0.95)),
        },
        |groups| {
            let mut eventfds = EventfdRoundTrip::start(two);
            groups.time(|count| eventfds.run(count))
        },
        |groups| groups.time(|count| plain.read(count)),
    );
    let mut plain = Plain::new(one);
    let mut theirs = VfioUserCrate::start(one);
    bench.pair(
        Row {
            what: "register read, one CPU",
            unit: Unit::ThousandsPerSecond,
            least: LEAST,
            reference: Some("vfio_user"),
            budget: BESIDE_OTHERS,
        },
        |groups| groups.time(|count| theirs.read(count)),
        |groups| groups.time(|count| plain.read(count)),
    );
    bench.pair(
        Row {
            what: "map and unmap 2 MiB, one CPU",
            unit: Unit::ThousandsPerSecond,
            least: LEAST,
            reference: Some("vfio_user"),
            budget: BESIDE_OTHERS,
        },
        |groups| groups.time(|count| theirs.map_and_unmap(count)),
        |groups| groups.time(|count| plain.map_and_unmap(count)),
    );
}

/// A client without a driver, and a chip.
struct Plain {
    client: Client,
    memory: OwnedFd,
    _serving: Serving,
    _chip: Chip,
}

impl Plain {
    fn new(processors: Processors) -> Self {
        let (chip, serving, socket) = processors.start(|| {
            let chip = Chip::new(ChipProfile::silicon(1)).expect("a chip");
            let (serving, socket) = chip.connect().expect("a server");
            (chip, serving, socket)
        });
        let client = Client::from_fd(socket, Options::default(), soon()).expect("a client");
        // Registers answer once memory space is enabled.
        let command = header::COMMAND_MEMORY.to_le_bytes();
        client
            .region_write(CONFIG_REGION, header::COMMAND.into(), &command, soon())
            .expect("memory space enabled");
        Self {
            client,
            memory: host_memory(),
            _serving: serving,
            _chip: chip,
        }
    }

    fn read(&mut self, count: u64) -> Duration {
        let mut identity = [0; 4];
        let start = Instant::now();
        for _ in 0..count {
            self.client
                .region_read(BAR0_REGION, 0, &mut identity, soon())
                .expect("an answer");
        }
        let time = start.elapsed();
        assert_eq!(u32::from_le_bytes(identity), ident_register(Model::Silicon));
        time
    }

    fn map_and_unmap(&mut self, count: u64) -> Duration {
        let map = ClientMap {
            iova: IOVA,
            size: MAPPED,
            protection: Protection::READ_WRITE,
            memory: Some((self.memory.as_fd(), 0)),
        };
        let start = Instant::now();
        for _ in 0..count {
            self.client.dma_map(&map, soon()).expect("mapped");
            self.client
                .dma_unmap(IOVA, MAPPED, soon())
                .expect("unmapped");
        }
        start.elapsed()
    }
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}
