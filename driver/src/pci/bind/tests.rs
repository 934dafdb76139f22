use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::pci::tree::Tree;

const CHIP: &str = "0000:01:00.0";

/// Acts on writes as the kernel does: on the tree of a test.
struct FakeKernel<'a> {
    tree: &'a Tree,
    /// The driver that matches the function by its IDs.
    native: Option<&'static str>,
    /// What each write was, as the name of the file and the text.
    writes: RefCell<Vec<(String, String)>>,
    /// The file whose writes fail, the errno, and how often.
    fails: RefCell<(&'static str, i32)>,
    times: Cell<u32>,
}

impl<'a> FakeKernel<'a> {
    fn new(tree: &'a Tree, native: Option<&'static str>) -> Self {
        Self {
            tree,
            native,
            writes: RefCell::default(),
            fails: RefCell::new(("", 0)),
            times: Cell::new(0),
        }
    }

    fn failing(self, file: &'static str, errno: i32, times: u32) -> Self {
        *self.fails.borrow_mut() = (file, errno);
        self.times.set(times);
        self
    }

    fn act(&self, path: &Path, text: &str) -> io::Result<()> {
        let file = path.file_name().unwrap().to_str().unwrap();
        self.writes
            .borrow_mut()
            .push((file.to_owned(), text.to_owned()));
        let (failing, errno) = *self.fails.borrow();
        if file == failing && self.times.get() > 0 {
            self.times.set(self.times.get() - 1);
            return Err(io::Error::from_raw_os_error(errno));
        }
        let device = self.tree.get(CHIP).path().to_owned();
        let overridden = fs::read_to_string(device.join("driver_override")).unwrap();
        let overridden = Some(overridden.trim().to_owned()).filter(|text| text != "(null)");
        let link = device.join("driver");
        let give = |driver: &str| {
            let to = self.tree.root().join("sys/bus/pci/drivers").join(driver);
            symlink(to, &link).unwrap();
        };
        match file {
            "driver_override" if text == "\n" => fs::write(path, "(null)\n"),
            "driver_override" => fs::write(path, format!("{text}\n")),
            "unbind" => fs::remove_file(link),
            "drivers_probe" => {
                if let Some(driver) = overridden.as_deref().or(self.native)
                    && !link.exists()
                {
                    give(driver);
                }
                Ok(())
            }
            "bind" => {
                give(
                    path.parent()
                        .unwrap()
                        .file_name()
                        .unwrap()
                        .to_str()
                        .unwrap(),
                );
                Ok(())
            }
            other => panic!("nobody writes to {other}"),
        }
    }

    fn bind(&self, driver: &str) -> Result<Bound, BindError> {
        let act = |path: &Path, text: &str| self.act(path, text);
        bind_by(&act, &self.tree.host(), &self.tree.get(CHIP), driver)
    }

    fn unbind(&self, driver: Option<&str>) -> Result<Bound, BindError> {
        let act = |path: &Path, text: &str| self.act(path, text);
        unbind_by(&act, &self.tree.host(), &self.tree.get(CHIP), driver)
    }

    fn files(&self) -> Vec<String> {
        let writes = self.writes.borrow();
        writes.iter().map(|(file, _)| file.clone()).collect()
    }
}

/// A chip on a driver, with VFIO loaded.
fn tree(driver: Option<&str>) -> Tree {
    let tree = Tree::new();
    tree.function(CHIP, "0x120000", driver, Some(7));
    tree.driver(VFIO_PCI);
    tree.driver("native");
    tree
}

fn state(tree: &Tree) -> (Option<String>, String) {
    let function = tree.get(CHIP);
    (
        function.driver().unwrap(),
        function.text("driver_override").unwrap(),
    )
}

fn record(tree: &Tree) -> std::path::PathBuf {
    Record::path(&tree.host(), CHIP.parse().unwrap())
}

#[test]
fn a_bound_function_goes_back_to_the_driver_it_had() {
    let tree = tree(Some("native"));
    let kernel = FakeKernel::new(&tree, Some("native"));
    let bound = kernel.bind(VFIO_PCI).unwrap();
    assert_eq!(bound.before.as_deref(), Some("native"));
    assert_eq!(bound.now.as_deref(), Some(VFIO_PCI));
    assert_eq!(state(&tree).1, VFIO_PCI);
    assert_eq!(
        kernel.files(),
        ["driver_override", "unbind", "drivers_probe"]
    );

    let bound = kernel.unbind(None).unwrap();
    assert_eq!(bound.now.as_deref(), Some("native"));
    assert_eq!(bound.warnings, [""; 0]);
    assert_eq!(state(&tree), (Some("native".into()), "(null)".into()));
    assert!(!record(&tree).exists());
}

#[test]
fn a_function_without_a_driver_has_none_again_and_its_override_back() {
    let tree = tree(None);
    fs::write(tree.get(CHIP).path().join("driver_override"), "other\n").unwrap();
    let kernel = FakeKernel::new(&tree, Some("native"));
    kernel.bind(VFIO_PCI).unwrap();
    kernel.unbind(None).unwrap();
    assert_eq!(state(&tree), (None, "other".into()));
}

#[test]
fn a_function_that_has_the_driver_is_left_alone() {
    let tree = tree(Some(VFIO_PCI));
    let kernel = FakeKernel::new(&tree, None);
    let bound = kernel.bind(VFIO_PCI).unwrap();
    assert_eq!(bound.before, bound.now);
    assert!(kernel.files().is_empty());
    assert!(!record(&tree).exists());
}

#[test]
fn from_one_of_vfios_drivers_to_another_the_first_driver_is_still_known() {
    let tree = tree(Some("native"));
    tree.driver("pci-stub");
    let kernel = FakeKernel::new(&tree, Some("native"));
    kernel.bind(VFIO_PCI).unwrap();
    kernel.bind("pci-stub").unwrap();
    assert_eq!(kernel.unbind(None).unwrap().now.as_deref(), Some("native"));
}

#[test]
fn a_failed_bind_forgets_nothing_of_the_one_before() {
    let tree = tree(Some("native"));
    tree.driver("pci-stub");
    FakeKernel::new(&tree, Some("native"))
        .bind(VFIO_PCI)
        .unwrap();
    let kernel = FakeKernel::new(&tree, Some("native")).failing("unbind", libc::ENODEV, 1);
    kernel.bind("pci-stub").unwrap_err();
    assert_eq!(state(&tree).0.as_deref(), Some(VFIO_PCI));
    let bound = kernel.unbind(None).unwrap();
    assert_eq!(
        (bound.now.as_deref(), bound.warnings.len()),
        (Some("native"), 0)
    );
}

#[test]
fn a_driver_that_does_not_take_it_is_told_and_all_is_as_before() {
    // The probe finds nobody, and `bind` tells why.
    struct Unwilling<'a>(FakeKernel<'a>);
    impl Unwilling<'_> {
        fn act(&self, path: &Path, text: &str) -> io::Result<()> {
            let overridden =
                fs::read_to_string(self.0.tree.get(CHIP).path().join("driver_override"));
            let vfio = overridden.unwrap().trim() == VFIO_PCI;
            match path.file_name().unwrap().to_str().unwrap() {
                "drivers_probe" if vfio => Ok(()),
                "bind" if vfio => Err(io::Error::from_raw_os_error(libc::EINVAL)),
                _ => self.0.act(path, text),
            }
        }
    }
    let tree = tree(Some("native"));
    let kernel = Unwilling(FakeKernel::new(&tree, Some("native")));
    let act = |path: &Path, text: &str| kernel.act(path, text);
    let error = bind_by(&act, &tree.host(), &tree.get(CHIP), VFIO_PCI).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("binding it to vfio-pci"), "{text}");
    assert!(text.contains("turn the IOMMU on"), "{text}");
    assert!(text.contains("as it was before"), "{text}");
    assert_eq!(state(&tree), (Some("native".into()), "(null)".into()));
    assert!(!record(&tree).exists());
}

#[test]
fn whichever_step_fails_the_function_is_as_before() {
    for (file, errno) in [
        ("driver_override", libc::EACCES),
        ("unbind", libc::ENODEV),
        ("drivers_probe", libc::EBUSY),
    ] {
        let tree = tree(Some("native"));
        let kernel = FakeKernel::new(&tree, Some("native")).failing(file, errno, 1);
        let error = kernel.bind(VFIO_PCI).unwrap_err();
        let BindError::Step {
            source, rollback, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(source.raw_os_error(), Some(errno), "{file}");
        assert_eq!(*rollback, Rollback::Done, "{file}");
        assert_eq!(state(&tree), (Some("native".into()), "(null)".into()));
        assert!(!record(&tree).exists(), "{file}");
    }
}

#[test]
fn a_rollback_that_fails_is_told_and_the_record_stays() {
    let tree = tree(Some("native"));
    let kernel = FakeKernel::new(&tree, Some("native")).failing("drivers_probe", libc::EBUSY, 2);
    let error = kernel.bind(VFIO_PCI).unwrap_err().to_string();
    assert!(error.contains("could not be brought back"), "{error}");
    assert!(record(&tree).exists());
    // With the kernel well again, the record leads back.
    assert_eq!(kernel.unbind(None).unwrap().now.as_deref(), Some("native"));
}

#[test]
fn a_kernel_that_takes_a_step_without_effect_is_told() {
    let tree = tree(Some("native"));
    let error = bind_by(&|_, _| Ok(()), &tree.host(), &tree.get(CHIP), VFIO_PCI).unwrap_err();
    assert!(matches!(error, BindError::NoEffect { .. }), "{error}");
    assert!(!record(&tree).exists());
}

#[test]
fn plain_files_are_not_written_to() {
    let tree = tree(Some("native"));
    let error = bind(&tree.host(), &tree.get(CHIP), VFIO_PCI, IfInUse::Refuse).unwrap_err();
    assert!(error.to_string().contains("plain files"), "{error}");
    assert!(error.to_string().contains("as it was before"), "{error}");
    assert_eq!(state(&tree), (Some("native".into()), "(null)".into()));
    assert!(!record(&tree).exists());
}

#[test]
fn records_that_say_nothing_of_use_are_told_and_passed_over() {
    let stale = |text: &str| {
        let tree = tree(Some(VFIO_PCI));
        fs::create_dir_all(record(&tree).parent().unwrap()).unwrap();
        fs::write(record(&tree), text).unwrap();
        let kernel = FakeKernel::new(&tree, Some("native"));
        let bound = kernel.unbind(None).unwrap();
        assert_eq!(bound.now.as_deref(), Some("native"));
        assert!(!record(&tree).exists());
        bound.warnings.join("\n")
    };
    assert!(stale("").contains("no record"));
    assert!(stale("\u{1b}[31m nonsense").contains("no record"));
    let of = |driver: &str, bound_to: &str, device: u16| {
        format!(
            r#"{{"driver":"{driver}","driver_override":null,"bound_to":"{bound_to}","vendor":6885,"device":{device}}}"#
        )
    };
    assert!(stale(&of("../../../evil", VFIO_PCI, 0xA100)).contains("which is none"));
    assert!(stale(&of("other", VFIO_PCI, 1)).contains("another device"));
    assert!(stale(&of("other", "pci-stub", 0xA100)).contains("somebody else"));
    assert_eq!(stale(&of("native", VFIO_PCI, 0xA100)), "");
}

#[test]
fn what_auk_did_not_bind_is_given_back_only_to_a_driver_by_name() {
    let tree = tree(Some("other"));
    let kernel = FakeKernel::new(&tree, Some("native"));
    let error = kernel.unbind(None).unwrap_err();
    assert!(matches!(error, BindError::NotBound { .. }), "{error}");
    let bound = kernel.unbind(Some("native")).unwrap();
    assert_eq!(bound.now.as_deref(), Some("native"));
}

#[test]
fn without_an_iommu_vfio_is_not_even_tried() {
    let tree = Tree::new();
    tree.function(CHIP, "0x120000", Some("native"), None);
    tree.driver(VFIO_PCI);
    let kernel = FakeKernel::new(&tree, Some("native"));
    let error = kernel.bind(VFIO_PCI).unwrap_err();
    assert!(matches!(error, BindError::NoIommu { .. }), "{error}");
    assert!(kernel.files().is_empty());
    tree.write(
        "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
        "Y\n",
    );
    kernel.bind(VFIO_PCI).unwrap();
}

#[test]
fn a_driver_that_is_not_loaded_and_names_that_are_none_are_refused() {
    let tree = tree(None);
    let kernel = FakeKernel::new(&tree, None);
    let error = kernel.bind("mlx5-vfio-pci").unwrap_err();
    assert!(
        error.to_string().contains("modprobe mlx5-vfio-pci"),
        "{error}"
    );
    for name in ["", "..", "a/b", "a\nb", "a b"] {
        let error = kernel.bind(name).unwrap_err();
        assert!(matches!(error, BindError::DriverName { .. }), "{error}");
    }
}

#[test]
fn a_bridge_is_refused_even_when_forced() {
    let tree = Tree::new();
    tree.function(CHIP, "0x060400", Some("pcieport"), Some(7));
    tree.driver(VFIO_PCI);
    for if_in_use in [IfInUse::Refuse, IfInUse::Force] {
        let error = bind(&tree.host(), &tree.get(CHIP), VFIO_PCI, if_in_use).unwrap_err();
        assert!(matches!(error, BindError::Bridge { .. }), "{error}");
        let error = unbind(&tree.host(), &tree.get(CHIP), None, if_in_use).unwrap_err();
        assert!(matches!(error, BindError::Bridge { .. }), "{error}");
    }
}

#[test]
fn a_function_in_use_is_refused_with_who_uses_it() {
    let tree = tree(Some(VFIO_PCI));
    tree.link("proc/4711/fd/5", "/dev/vfio/7");
    tree.write("proc/4711/comm", "train\n");
    let error = unbind(&tree.host(), &tree.get(CHIP), None, IfInUse::Refuse).unwrap_err();
    assert!(
        error.to_string().contains("process 4711 (train)"),
        "{error}"
    );
}

#[test]
fn a_write_that_does_not_end_is_left_to_a_process_of_its_own() {
    // A full pipe that nobody reads takes no more: as an unbind that waits for a holder.
    let (reader, mut writer) = io::pipe().unwrap();
    // As many bytes as a pipe holds, pipe(7).
    io::Write::write_all(&mut writer, &[0; 65_536]).unwrap();
    let error = steps::wait_for_write(writer, CHIP, Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(reader);
}
