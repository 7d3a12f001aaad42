//! A stream with the headers of all its flows.

use super::failure::Failure;
use crate::loadgen::engine::StreamLoad;
use crate::loadgen::headers::{FlowHeaders, Shape};
use crate::loadgen::order::Order;
use crate::loadgen::profile::Stream;
use crate::loadgen::report::StreamReport;
use crate::loadgen::size::FCS_LEN;

/// See the module.
pub(super) struct Prepared {
    name: String,
    stream: Stream,
    order: Order,
    shape: Shape,
    flows: Vec<FlowHeaders>,
    /// Lengths of its frames in memory, with their weights.
    pub lengths: Vec<(u16, u16)>,
}

impl Prepared {
    /// Writes the headers of all flows, in their order.
    pub fn new(name: String, stream: Stream, order: Order) -> Result<Self, Failure> {
        let flows = (0..stream.flows).map(|number| stream.headers(number));
        let mut flows: Vec<_> = flows.collect::<Result<_, _>>()?;
        order.arrange(&mut flows);
        Ok(Self {
            shape: stream.shape()?,
            lengths: stream.lengths()?,
            name,
            stream,
            order,
            flows,
        })
    }

    /// As the engines take it, under the number that its frames will carry.
    pub fn load(&self, id: u16) -> StreamLoad<'_> {
        StreamLoad {
            id,
            shape: self.shape,
            flows: &self.flows,
            sizes: &self.lengths,
            share: self.stream.share,
        }
    }

    /// What reports say of it.
    pub fn report(&self) -> StreamReport {
        StreamReport::new(&self.name, &self.stream, self.order)
    }
}

/// The mean size of the frames that streams send together, in bytes as they leave the device, with the FCS.
pub(super) fn mean_size(streams: &[Prepared]) -> f64 {
    let (mut bytes, mut shares) = (0.0, 0.0);
    for prepared in streams {
        let share = f64::from(prepared.stream.share);
        let (mut sum, mut weights) = (0.0, 0.0);
        for (len, weight) in &prepared.lengths {
            sum += f64::from(len + FCS_LEN) * f64::from(*weight);
            weights += f64::from(*weight);
        }
        bytes += share * sum / weights;
        shares += share;
    }
    bytes / shares
}

#[cfg(test)]
mod tests {
    use super::super::traffic::tests::stream;
    use super::*;

    fn prepared(flags: &str, share: u16, order: Order) -> Prepared {
        let stream = Stream {
            share,
            ..stream(flags)
        };
        Prepared::new("x".to_owned(), stream, order).unwrap()
    }

    #[test]
    fn the_mean_size_is_that_of_the_mix_on_the_wire() {
        let plain = prepared("--size 64,128:3", 3, Order::Increasing);
        assert_eq!(mean_size(std::slice::from_ref(&plain)), 112.0);
        let encapsulated = prepared("--size 1000 --vni 1", 1, Order::Increasing);
        let mix = [plain, encapsulated];
        assert_eq!(mean_size(&mix), (3.0 * 112.0 + 1050.0) / 4.0);
    }

    #[test]
    fn a_random_order_is_of_the_same_flows_and_the_report_says_how_to_get_it_again() {
        let order = Order::Random { seed: 7 };
        let (straight, shuffled) = (
            prepared("--flows 100", 1, Order::Increasing),
            prepared("--flows 100", 1, order),
        );
        assert_ne!(straight.flows, shuffled.flows);
        assert_eq!(shuffled.flows, prepared("--flows 100", 1, order).flows);
        let all = shuffled.flows.iter();
        assert!(all.clone().all(|flow| straight.flows.contains(flow)));
        let report = shuffled.report();
        assert_eq!((report.order.as_str(), report.seed), ("random", Some(7)));
    }
}
