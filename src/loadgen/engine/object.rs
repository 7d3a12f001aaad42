//! A loaded BPF object: its programs and maps by name.

use std::sync::Once;

use libbpf_rs::{
    Link, MapCore, MapHandle, Object, ObjectBuilder, OpenObject, PrintLevel, set_print,
};

use super::{Device, EngineError};

static MESSAGES: Once = Once::new();

/// Opens an object; `what` it is stands in errors. libbpf's own messages go to the log, not to standard error.
pub(super) fn open(bytes: &[u8], what: &'static str) -> Result<OpenObject, EngineError> {
    MESSAGES.call_once(|| {
        set_print(Some((PrintLevel::Warn, |_, message| {
            tracing::debug!("libbpf: {}", message.trim_end());
        })));
    });
    ObjectBuilder::default()
        .open_memory(bytes)
        .map_err(|source| EngineError::Load { what, source })
}

/// Changes a map before the object is loaded.
pub(super) fn resize(object: &mut OpenObject, map: &str, entries: u32) -> Result<(), EngineError> {
    for mut found in object.maps_mut() {
        if found.name() == map {
            found
                .set_max_entries(entries)
                .map_err(EngineError::map("the size of a map"))?;
        }
    }
    Ok(())
}

/// A map, by its name in C.
pub(super) fn map(object: &Object, name: &'static str) -> Result<MapHandle, EngineError> {
    let found = object.maps().find(|map| map.name() == name);
    let found = found.ok_or_else(|| EngineError::Plan(format!("the object has no map {name}")))?;
    MapHandle::try_from(&found).map_err(EngineError::map(name))
}

/// Hangs an XDP program, by its name in C, on a device.
pub(super) fn attach(
    object: &mut Object,
    program: &str,
    device: Device,
) -> Result<Link, EngineError> {
    let found = object.progs_mut().find(|found| found.name() == program);
    let Some(found) = found else {
        return Err(EngineError::Plan(format!(
            "the object has no program {program}"
        )));
    };
    found
        .attach_xdp(device.ifindex as i32)
        .map_err(|source| EngineError::Attach {
            device: device.name,
            source,
        })
}

/// The numbers in the value of a map entry.
pub(super) fn numbers(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.as_chunks::<8>().0.iter();
    words.map(|bytes| u64::from_ne_bytes(*bytes)).collect()
}
