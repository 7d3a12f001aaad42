//! A program of a copy, attached to a device, and what is said when it cannot be.

use std::os::fd::AsFd;

use super::copy::Copy;
use super::hooks::{self, Hook, Side};
use super::{Error, XdpMode};

pub(super) fn attach_xdp(
    copy: &Copy,
    program: &'static str,
    ifindex: u32,
    device: &str,
) -> Result<(Hook, XdpMode, Option<String>), Error> {
    let fd = copy.program(program)?;
    let fd = fd.as_fd();
    let native = match hooks::attach_xdp(fd, ifindex, XdpMode::Native) {
        Ok(hook) => return Ok((hook, XdpMode::Native, None)),
        Err(error) => error,
    };
    if let Some((program, mode)) = hooks::xdp_program(ifindex) {
        return Err(Error::ForeignProgram {
            device: device.to_owned(),
            program,
            mode,
        });
    }
    match hooks::attach_xdp(fd, ifindex, XdpMode::Generic) {
        Ok(hook) => Ok((
            hook,
            XdpMode::Generic,
            Some(format!("the driver refused native XDP: {native}")),
        )),
        Err(source) => Err(Error::Attach {
            program,
            device: device.to_owned(),
            source,
        }),
    }
}

pub(super) fn attach_classifier(
    copy: &Copy,
    program: &'static str,
    ifindex: u32,
    device: &str,
    side: Side,
    by_link: bool,
) -> Result<Hook, Error> {
    hooks::attach_classifier(copy.program(program)?.as_fd(), ifindex, side, by_link).map_err(
        |source| Error::Attach {
            program,
            device: device.to_owned(),
            source,
        },
    )
}

pub(super) fn attach_error(program: &'static str, device: &str, source: std::io::Error) -> Error {
    Error::Attach {
        program,
        device: device.to_owned(),
        source,
    }
}
