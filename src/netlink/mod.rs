//! Questions to the kernel over route netlink, and its answers. Knows nothing of VXLAN.
