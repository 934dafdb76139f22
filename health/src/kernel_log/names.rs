//! Which interface is of which function, as the log itself tells it: a line may be older than today's names.

use std::collections::BTreeMap;

use crate::probe::discover::is_bdf;

/// Names that are remembered; a host with more has few lines that need them.
const MOST: usize = 1024;

/// Interfaces with the addresses of their functions.
#[derive(Debug, Default)]
pub(super) struct Names {
    functions: BTreeMap<String, String>,
}

impl Names {
    /// Takes what a line tells: `netdev_printk` begins with driver, function and interface,
    /// `mlx5_core 0000:41:00.0 enp65s0f0: renamed from eth0`.
    pub(super) fn learn(&mut self, text: &str) {
        let mut words = text.splitn(4, ' ');
        let (_, function) = (words.next(), words.next());
        let interface = words.next().and_then(|word| word.strip_suffix(':'));
        let (Some(function), Some(interface)) = (function, interface) else {
            return;
        };
        if !is_bdf(function) || self.functions.len() >= MOST {
            return;
        }
        let former = words
            .next()
            .and_then(|rest| rest.strip_prefix("renamed from "));
        if let Some(former) = former {
            self.functions.remove(former);
        }
        self.functions
            .insert(interface.to_owned(), function.to_owned());
    }

    /// The function of an interface.
    pub(super) fn function(&self, interface: &str) -> Option<&str> {
        self.functions.get(interface).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_the_function_that_had_it_at_the_time() {
        let mut names = Names::default();
        names.learn("e1000e 0000:00:03.0 eth0: (PCI Express:2.5GT/s:Width x1) 52:54:00:12:34:56");
        assert_eq!(names.function("eth0"), Some("0000:00:03.0"));
        names.learn("e1000e 0000:00:03.0 enp0s3: renamed from eth0");
        assert_eq!(names.function("eth0"), None);
        names.learn("e1000e 0000:00:04.0 eth0: (PCI Express:2.5GT/s:Width x1) 52:54:00:12:34:57");
        assert_eq!(names.function("eth0"), Some("0000:00:04.0"));
        assert_eq!(names.function("enp0s3"), Some("0000:00:03.0"));
    }

    #[test]
    fn other_lines_tell_nothing_and_there_is_an_end_to_it() {
        let mut names = Names::default();
        for text in [
            "",
            "nvme 0000:04:00.0: PCIe Bus Error",
            "a b c: d",
            "usb 1-1: x",
        ] {
            names.learn(text);
        }
        assert!(names.functions.is_empty());
        for number in 0..3000 {
            names.learn(&format!("x 0000:01:00.0 if{number}: up"));
        }
        assert_eq!(names.functions.len(), MOST);
    }
}
