//! A packet buffer of the kernel as [`Bytes`].

use core::mem::MaybeUninit;

use aya_ebpf::{helpers::generated::bpf_skb_load_bytes, programs::TcContext};
use weir_ebpf_common::{Bytes, Kind, Parsed, Tuple, parse};

/// A frame at a traffic control hook.
pub struct Frame<'a>(pub &'a TcContext);

impl Bytes for Frame<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the buffer is N bytes long, and the helper fills all of it or fails.
        let failed =
            unsafe { bpf_skb_load_bytes(self.0.skb.skb.cast(), offset as u32, bytes.as_mut_ptr().cast(), N as u32) };
        // SAFETY: filled, as said above.
        (failed == 0).then(|| unsafe { bytes.assume_init() })
    }
}

impl Frame<'_> {
    /// Reads the headers behind a link-layer header of `network` bytes.
    #[inline(always)]
    pub fn parse(&self, network: u32) -> Parsed {
        let mut parsed = Parsed { tuple: Tuple::EMPTY, kind: Kind::Unparsed, transport: 0 };
        if !self.is_tagged() {
            parse_into(self.0, u32::from(self.ether_type()), network, &mut parsed);
        }
        parsed
    }

    /// Bytes of the frame.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.0.len()
    }

    /// Interface whose hook this is.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid as long as the program runs.
        unsafe { (*self.0.skb.skb).ifindex }
    }

    /// The packet mark.
    #[inline(always)]
    pub fn mark(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.0.skb.skb).mark }
    }

    #[inline(always)]
    fn ether_type(&self) -> u16 {
        // SAFETY: as in `ifindex`.
        u16::from_be(unsafe { (*self.0.skb.skb).protocol } as u16)
    }

    /// The kernel takes the outer VLAN tag off the frame before the hook.
    #[inline(always)]
    fn is_tagged(&self) -> bool {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.0.skb.skb).vlan_present != 0 }
    }
}

/// A function of its own, so that the headers do not take stack from what is decided with them.
#[inline(never)]
fn parse_into(ctx: &TcContext, ether_type: u32, network: u32, parsed: &mut Parsed) {
    *parsed = parse(&Frame(ctx), ether_type as u16, network as usize);
}
