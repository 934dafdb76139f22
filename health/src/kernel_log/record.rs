//! A record of the kernel log as `/dev/kmsg` has it, `Documentation/ABI/testing/dev-kmsg` of the kernel:
//! `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT`, and then lines that begin with a space, `KEY=VALUE` of the device.

use std::time::Duration;

use crate::probe::discover::is_bdf;

/// Facility of what the kernel itself says, syslog(3); whatever processes write there has another.
const KERNEL: u32 = 0;
/// The dictionary's key of the device that a line is about, and how it begins for one on the PCI bus
/// (`dev_printk_emit` in drivers/base/core.c).
const DEVICE: &str = "DEVICE=+pci:";

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Severity, 0 to 7.
    pub severity: u8,
    /// Whether the kernel itself says so.
    pub of_kernel: bool,
    /// Its number, which grows by one from record to record since boot.
    pub sequence: u64,
    /// When, on the kernel's clock since boot.
    pub at: Duration,
    /// What it says. Bytes that are no printable ASCII are escaped, `\x0a`.
    pub text: &'a str,
    /// Address of the PCI function that the kernel's driver core names with it.
    pub device: Option<&'a str>,
}

impl<'a> Line<'a> {
    /// Reads a record; `None` for what is none.
    #[must_use]
    pub fn parse(record: &'a [u8]) -> Option<Self> {
        let record = std::str::from_utf8(record).ok()?;
        let (header, rest) = record.split_once(';')?;
        let mut fields = header.split(',');
        let priority: u32 = fields.next()?.parse().ok()?;
        let sequence = fields.next()?.parse().ok()?;
        let at = Duration::from_micros(fields.next()?.parse().ok()?);
        // Fields that a newer kernel has are ignored, as its documentation asks; so are flags.
        fields.next()?;
        let mut lines = rest.split('\n');
        let text = lines.next()?;
        let device = lines
            .filter_map(|line| line.strip_prefix(' '))
            .find_map(|line| line.strip_prefix(DEVICE));
        Some(Self {
            severity: (priority & 7) as u8,
            of_kernel: priority >> 3 == KERNEL,
            sequence,
            at,
            text,
            device: device.filter(|device| is_bdf(device)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_has_its_number_its_time_its_text_and_its_device() {
        let record = b"3,1234,5678901,-;e1000e 0000:00:1f.6 eno1: Detected Hardware Unit Hang:\x5cx0a\n SUBSYSTEM=pci\n \
            DEVICE=+pci:0000:00:1f.6\n";
        let line = Line::parse(record).unwrap();
        assert_eq!(
            (line.severity, line.of_kernel, line.sequence),
            (3, true, 1234)
        );
        assert_eq!(line.at, Duration::from_micros(5_678_901));
        assert!(line.text.ends_with("Hang:\\x0a"));
        assert_eq!(line.device, Some("0000:00:1f.6"));
    }

    #[test]
    fn what_processes_write_is_not_of_the_kernel() {
        // Facility 1 is what a write to /dev/kmsg gets, 3 is of daemons.
        for (record, of_kernel) in [
            (&b"6,1,0,-;Linux version 6.12"[..], true),
            (b"14,2,0,-;hello", false),
            (
                b"30,339,5140900,c;NET: Registered protocol family 10",
                false,
            ),
        ] {
            assert_eq!(Line::parse(record).unwrap().of_kernel, of_kernel);
        }
    }

    #[test]
    fn fields_of_newer_kernels_and_other_devices_are_passed_over() {
        let record =
            b"4,7,9,-,caller=T1;usb 1-1: device descriptor read\n SUBSYSTEM=usb\n DEVICE=c189:1\n";
        let line = Line::parse(record).unwrap();
        assert_eq!(
            (line.text, line.device),
            ("usb 1-1: device descriptor read", None)
        );
        let elsewhere = b"4,7,9,-;x\n DEVICE=+pci:../../etc\n";
        assert_eq!(Line::parse(elsewhere).unwrap().device, None);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for record in [
            &b""[..],
            b"6,1,0,-",
            b"6,1,0;x",
            b"6,-1,0,-;x",
            b"x,1,0,-;x",
            b"6,1,99999999999999999999,-;x",
            b"\xff,1,0,-;x",
        ] {
            assert_eq!(Line::parse(record), None, "{record:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_reads_back(priority: u16, sequence: u64, micros: u64, text in "[ -~]{0,80}") {
            let record = format!("{priority},{sequence},{micros},-;{text}\n SUBSYSTEM=pci\n");
            let line = Line::parse(record.as_bytes()).unwrap();
            prop_assert_eq!((line.sequence, line.text), (sequence, text.as_str()));
            prop_assert_eq!(line.of_kernel, priority < 8);
        }

        #[test]
        fn any_bytes_are_a_record_or_none(bytes: Vec<u8>) {
            let _ = Line::parse(&bytes);
        }
    }
}
