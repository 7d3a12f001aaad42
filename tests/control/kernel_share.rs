//! When the kernel's share is told, against what readers of the table see at that moment.

use std::sync::{Arc, Mutex};

use vxgate::control::Control;
use vxgate::table::{KernelShare, Reader, publication};

use super::lab::{View, mac, until};
use super::{LOCAL_ADDRESS, b_mac, lab};

/// What was told, and whether readers saw the VTEP as the kernel's then.
type Told = Arc<Mutex<Vec<(KernelShare, bool)>>>;

fn is_kernels(reader: &mut Reader) -> bool {
    let view = View::of(reader.snapshot());
    // Nothing is held back by a look.
    reader.offline();
    view.next_hop("10.9.0.2") == LOCAL_ADDRESS
}

#[test]
fn frames_become_the_kernels_before_the_table_says_so_and_ours_when_nobody_reads_an_older_one() {
    let lab = lab();
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    lab.fdb("add 02:00:00:00:00:02 dev vx1 dst 10.9.0.3 self permanent");
    lab.fdb("add 02:00:00:00:00:03 dev vx1 dst 10.88.0.1 self permanent");
    let vx1 = lab.found("vx1").device.ifindex;
    let told = Told::default();
    let looker: Arc<Mutex<Option<Reader>>> = Arc::default();
    let (sink, eye) = (Arc::clone(&told), Arc::clone(&looker));
    let control = Control::open(&[lab.found("vx1")], &[])
        .unwrap()
        .with_kernel_shares(move |ifindex, share| {
            assert_eq!(ifindex, vx1);
            let seen = eye.lock().unwrap().as_mut().is_some_and(is_kernels);
            sink.lock().unwrap().push((share.clone(), seen));
            true
        });
    let only = |last: &[u8]| KernelShare::Only(last.iter().copied().map(mac).collect());
    let take = || std::mem::take(&mut *told.lock().unwrap());
    // At once: the entry without a route.
    assert_eq!(take(), [(only(&[3]), false)]);

    let (writer, mut readers) = publication(3, control.snapshot());
    *looker.lock().unwrap() = readers.pop();
    let (mut holder, mut watcher) = (readers.pop().unwrap(), readers.pop().unwrap());
    let (sender, _events) = crossbeam::channel::bounded(64);
    let running = control.start(writer, sender).unwrap();

    lab.in_a("addr add 10.9.0.2/32 dev lo");
    until("an address of ours", || is_kernels(&mut watcher));
    assert_eq!(take(), [(only(&[1, 3]), false)], "told before");

    assert!(View::of(holder.snapshot()).next_hop("10.9.0.2") == LOCAL_ADDRESS);
    lab.in_a("addr del 10.9.0.2/32 dev lo");
    until("of others again", || {
        View::of(watcher.snapshot()).next_hop("10.9.0.2") == Some(Ok(b_mac()))
    });
    watcher.offline();
    assert_eq!(take(), [], "one reader still looks at the old table");
    // Another publication, whatever it says, changes nothing about that.
    lab.fdb("add 02:00:00:00:00:04 dev vx1 dst 10.88.0.1 self permanent");
    until("the next snapshot", || {
        let fdb = View::of(watcher.snapshot()).fdb;
        watcher.offline();
        fdb.contains_key(&mac(4))
    });
    assert_eq!(take(), [(only(&[1, 3, 4]), false)]);
    holder.offline();
    until("all have moved on", || !told.lock().unwrap().is_empty());
    assert_eq!(take(), [(only(&[3, 4]), false)], "told after");
    running.stop();
}
