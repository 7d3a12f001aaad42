//! What the headers of the inner frame ask of the outer ones.

use super::super::{ecn, unfinished};
use crate::stats::DropReason;
use crate::table::{Df, FlowLabel, InnerVlan, OuterFields, SegmentConfig};
use crate::wire::ethernet::EthernetHeader;
use crate::wire::ipv6::FLOW_LABEL_MASK;
use crate::wire::layers::{Layers, Network};
use crate::wire::{entropy, vlan};

/// What the outer headers of a frame owe to its inner ones, and whether those are whole: read by `decide`, written by `apply`.
#[derive(Debug, Clone, Copy)]
pub(in crate::pipeline) struct Push {
    /// Of the frame's flow.
    pub(super) hash: u32,
    flow_label: u32,
    tos: u8,
    ttl: u8,
    df: bool,
    /// The inner checksum is to be finished.
    pub(super) unfinished: bool,
}

impl Push {
    /// Of a frame that nothing is pushed onto.
    pub(in crate::pipeline) const NOTHING: Self = Self {
        hash: 0,
        flow_label: 0,
        tos: 0,
        ttl: 0,
        df: false,
        unfinished: false,
    };

    /// Judges an inner frame, and becomes what is pushed onto it.
    #[inline(always)]
    pub(super) fn read(&mut self, config: &SegmentConfig, frame: &[u8]) -> Result<(), DropReason> {
        let Some(layers) = Layers::plain(frame) else {
            return read_any(config, frame, self);
        };
        self.work_out(config, frame, &layers);
        Ok(())
    }

    /// Becomes what is pushed onto the frame with these headers.
    #[inline(always)]
    fn work_out(&mut self, config: &SegmentConfig, frame: &[u8], layers: &Layers) {
        let hash = entropy::flow_hash(frame, layers);
        *self = Self {
            hash,
            flow_label: match config.flow_label {
                FlowLabel::Fixed(label) => label,
                FlowLabel::Inner => layers.flow_label,
                // 0 would say that there is no label.
                FlowLabel::Hash => (hash & FLOW_LABEL_MASK).max(1),
            },
            tos: config.tos.resolve(layers.traffic_class) & !ecn::MASK
                | ecn::encapsulate(config.ecn_encap, layers.traffic_class),
            ttl: config.ttl.resolve(layers.ttl),
            df: match config.df {
                Df::Unset => false,
                Df::Set => true,
                Df::Inherit => {
                    layers.place.tags == 0 && (layers.df || layers.place.network == Network::Ipv6)
                }
            },
            unfinished: unfinished::is_left(frame, layers),
        };
    }

    /// What outer headers are written from, but for the identification, which each has for itself.
    #[inline(always)]
    pub(in crate::pipeline) fn fields(
        self,
        config: &SegmentConfig,
        group_policy: u32,
        inner_sum: Option<u32>,
    ) -> OuterFields {
        OuterFields {
            source_port: entropy::spread(
                self.hash,
                config.source_ports.low,
                config.source_ports.high,
            ),
            ip_id: 0,
            tos: self.tos,
            ttl: self.ttl,
            df: self.df,
            flow_label: self.flow_label,
            group_policy,
            inner_sum,
        }
    }
}

/// Judges an inner frame of any kind, and works out what is pushed onto it. Apart, so that the many plain ones carry nothing of the
/// others along.
#[inline(never)]
fn read_any(config: &SegmentConfig, frame: &[u8], push: &mut Push) -> Result<(), DropReason> {
    let layers = Layers::parse(frame).ok_or(DropReason::AccessShort)?;
    if layers.place.network == Network::Cut {
        return Err(DropReason::AccessShort);
    }
    if config.inner_vlan == InnerVlan::Drop && is_tagged(frame) {
        return Err(DropReason::InnerVlan);
    }
    push.work_out(config, frame, &layers);
    Ok(())
}

/// Whether a VLAN tag follows the addresses, be it whole or cut short.
fn is_tagged(frame: &[u8]) -> bool {
    EthernetHeader::parse(frame).is_some_and(|(header, _)| vlan::is_tag(header.ether_type()))
}
