//! DEVICE_SET_IRQS.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Violation, check_argsz, fixed};
use crate::model::IrqAction;

const DATA_NONE: u32 = 1 << 0;
const DATA_BOOL: u32 = 1 << 1;
const DATA_EVENTFD: u32 = 1 << 2;
const DATA_MASK: u32 = DATA_NONE | DATA_BOOL | DATA_EVENTFD;
const ACTION_MASK: u32 = 1 << 3;
const ACTION_UNMASK: u32 = 1 << 4;
const ACTION_TRIGGER: u32 = 1 << 5;
const ACTIONS: u32 = ACTION_MASK | ACTION_UNMASK | ACTION_TRIGGER;

/// Payload of DEVICE_SET_IRQS (`struct vfio_irq_set`), before the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IrqSetRequest {
    argsz: u32,
    flags: u32,
    /// Which interrupt index.
    pub index: u32,
    /// First vector.
    pub start: u32,
    /// Number of vectors.
    pub count: u32,
}

/// The kind of data of a DEVICE_SET_IRQS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// `VFIO_IRQ_SET_DATA_NONE`
    None,
    /// `VFIO_IRQ_SET_DATA_BOOL`: a byte a vector follows.
    Bool,
    /// `VFIO_IRQ_SET_DATA_EVENTFD`: a descriptor a vector, or none at all, came with the message.
    Eventfd,
}

impl IrqSetRequest {
    /// The request; `data` bytes follow it.
    pub fn new(
        kind: DataKind,
        action: IrqAction,
        index: u32,
        start: u32,
        count: u32,
        data: usize,
    ) -> Self {
        let kind = match kind {
            DataKind::None => DATA_NONE,
            DataKind::Bool => DATA_BOOL,
            DataKind::Eventfd => DATA_EVENTFD,
        };
        let action = match action {
            IrqAction::Mask => ACTION_MASK,
            IrqAction::Unmask => ACTION_UNMASK,
            IrqAction::Trigger => ACTION_TRIGGER,
        };
        Self {
            argsz: (size_of::<Self>() + data) as u32,
            flags: kind | action,
            index,
            start,
            count,
        }
    }

    /// Reads a payload: the request, what kind of data it has, what is to be done, and the bytes after it.
    ///
    /// # Errors
    /// A [`Violation`] for a payload cut short, unknown flags, or not exactly one kind of data and one action.
    pub fn parse(payload: &[u8]) -> Result<(Self, DataKind, IrqAction, &[u8]), Violation> {
        let request: Self = fixed(payload)?;
        check_argsz(request.argsz, size_of::<Self>())?;
        let wrong = |rule| Violation::Field {
            field: "flags",
            found: request.flags.into(),
            rule,
        };
        if request.flags & !(DATA_MASK | ACTIONS) != 0 {
            return Err(wrong("expected no bits above 5"));
        }
        let kind = match request.flags & DATA_MASK {
            DATA_NONE => DataKind::None,
            DATA_BOOL => DataKind::Bool,
            DATA_EVENTFD => DataKind::Eventfd,
            _ => return Err(wrong("expected exactly one of the data bits 0, 1, 2")),
        };
        let action = match request.flags & ACTIONS {
            ACTION_MASK => IrqAction::Mask,
            ACTION_UNMASK => IrqAction::Unmask,
            ACTION_TRIGGER => IrqAction::Trigger,
            _ => return Err(wrong("expected exactly one of the action bits 3, 4, 5")),
        };
        Ok((
            request,
            kind,
            action,
            payload.get(size_of::<Self>()..).unwrap_or_default(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_a_violation(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = IrqSetRequest::parse(&bytes);
        }

        #[test]
        fn exactly_one_kind_and_one_action_are_accepted(flags in 0_u32..128) {
            let request = IrqSetRequest { argsz: 20, flags, index: 0, start: 0, count: 1 };
            let fine = flags < 64 && (flags & DATA_MASK).count_ones() == 1 && (flags & ACTIONS).count_ones() == 1;
            prop_assert_eq!(IrqSetRequest::parse(request.as_bytes()).is_ok(), fine);
        }

        #[test]
        fn requests_survive_the_wire(index: u32, start: u32, count: u32) {
            for kind in [DataKind::None, DataKind::Bool, DataKind::Eventfd] {
                for action in [IrqAction::Mask, IrqAction::Unmask, IrqAction::Trigger] {
                    let request = IrqSetRequest::new(kind, action, index, start, count, 0);
                    prop_assert_eq!(IrqSetRequest::parse(request.as_bytes()), Ok((request, kind, action, &[][..])));
                }
            }
        }
    }
}
