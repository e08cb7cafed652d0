//! Made-up machines, for the tests of this module and its parts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{CaptureDevice, SystemPaths, UsbIdentity};

pub(crate) const MICROPHONE: &str = "USB PnP Sound Device";

/// A temporary directory that stands for `/`. Removed on drop.
pub(crate) struct Tree(PathBuf);

impl Tree {
    pub(crate) fn new() -> Tree {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("wavecast-devices-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).expect("a temporary directory");
        Tree(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn paths(&self) -> SystemPaths {
        let at = |name| self.0.join(name);
        SystemPaths { proc: at("proc"), sys: at("sys"), dev: at("dev"), etc: at("etc") }
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> PathBuf {
        let file = self.0.join(path);
        fs::create_dir_all(file.parent().expect("a file in the tree")).expect("its directory");
        fs::write(&file, text).expect("the file");
        file
    }

    pub(crate) fn link(&self, path: &str, target: &str) {
        let link = self.0.join(path);
        fs::create_dir_all(link.parent().expect("a link in the tree")).expect("its directory");
        std::os::unix::fs::symlink(self.0.join(target), link).expect("the link");
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn device(card: i32, id: &str, name: &str, usb: Option<UsbIdentity>) -> CaptureDevice {
    CaptureDevice {
        card_index: card,
        card_id: id.to_owned(),
        device: 0,
        driver: if usb.is_some() { "USB-Audio" } else { id }.to_owned(),
        card_name: name.to_owned(),
        pcm_name: if usb.is_some() { "USB Audio" } else { "PCM" }.to_owned(),
        stable_name: format!("hw:CARD={id},DEV=0"),
        usb,
    }
}

pub(crate) fn usb(path: &str, serial: Option<&str>) -> UsbIdentity {
    UsbIdentity {
        vendor: 0x0d8c,
        product: 0x0014,
        serial: serial.map(str::to_owned),
        path: path.to_owned(),
        manufacturer: None,
        product_name: None,
    }
}
