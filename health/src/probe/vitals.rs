//! Vital signs from config space, 16 dwords a look when nothing moves.

use auk_asic::config::{dsn, dvsec, extended};
use auk_asic::ident::VENDOR;
use auk_asic::vitals::{BODY, DVSEC_ID, DVSEC_REVISION, DVSEC_SIZE, LIVE_SIZE, READ_TRIES};
use auk_asic::vitals::{VitalSigns, Vitals};
use zerocopy::{FromBytes, IntoBytes};

use super::ProbeError;
use super::config::ConfigSpace;

/// Dwords of the live part, the sequence counter left out.
const LIVE: usize = LIVE_SIZE / 4 - 1;
/// Dwords that change at a start of the firmware only.
const STATIC: usize = (VitalSigns::SIZE - LIVE_SIZE) / 4;
/// Index of the generation in the live part.
const GENERATION: usize = core::mem::offset_of!(VitalSigns, generation) / 4 - 1;

/// Reads one chip's vital signs and remembers what need not be read again.
#[derive(Debug, Default)]
pub struct VitalsProbe {
    /// Where the capability is.
    found: Option<u16>,
    /// The static part, with the generation that it is of.
    constants: Option<(u32, [u32; STATIC])>,
}

impl VitalsProbe {
    /// Reads the block under its sequence counter.
    ///
    /// # Errors
    /// When there is no such block, when it never stands still, when it holds what the programming
    /// model does not have, and as [`ConfigSpace::read`].
    pub fn read(&mut self, config: &ConfigSpace) -> Result<Vitals, ProbeError> {
        let capability = match self.found {
            Some(offset) => offset,
            None => *self.found.insert(find(config)?),
        };
        for _ in 0..READ_TRIES {
            if let Some(raw) = self.attempt(config, capability + BODY)? {
                return Vitals::parse(&raw).map_err(|error| ProbeError::Malformed {
                    path: config.path().display().to_string(),
                    found: format!("{} {:#x}", error.what, error.found),
                    expected: error.expected.into(),
                });
            }
        }
        Err(ProbeError::Unsettled {
            path: config.path().display().to_string(),
            tries: READ_TRIES,
        })
    }

    /// Offset of the capability, once it was found.
    #[must_use]
    pub fn offset(&self) -> Option<u16> {
        self.found
    }

    /// One try; `None` when the block changed meanwhile.
    fn attempt(
        &mut self,
        config: &ConfigSpace,
        block: u16,
    ) -> Result<Option<VitalSigns>, ProbeError> {
        // In one go: the kernel reads in ascending order, so the counter comes first.
        let [sequence, live @ ..]: [u32; LIVE + 1] = config.read(block)?;
        if sequence == u32::MAX {
            // The counter never gets there in use (13 years), and a dead link reads so.
            return Err(ProbeError::AllOnes {
                path: config.path().display().to_string(),
            });
        }
        if sequence % 2 == 1 {
            return Ok(None);
        }
        let constants = match self.constants {
            Some((generation, words)) if generation == live[GENERATION] => words,
            _ => config.read(block + LIVE_SIZE as u16)?,
        };
        if config.dword(block)? != sequence {
            return Ok(None);
        }
        self.constants = Some((live[GENERATION], constants));

        let mut words = [0u32; VitalSigns::SIZE / 4];
        words[0] = sequence;
        words[1..=LIVE].copy_from_slice(&live);
        words[LIVE + 1..].copy_from_slice(&constants);
        // The sizes are equal by the constants above, so this always has a value.
        Ok(VitalSigns::read_from_bytes(words.as_bytes()).ok())
    }
}

fn find(config: &ConfigSpace) -> Result<u16, ProbeError> {
    let found = config.find_extended(extended::DVSEC, |config, offset| {
        let [one, two] = config.read(offset + dvsec::HEADER1)?;
        Ok(one & 0xFFFF == u32::from(VENDOR)
            && one >> 16 & 0xF == u32::from(DVSEC_REVISION)
            && one >> 20 >= u32::from(DVSEC_SIZE)
            && two & 0xFFFF == u32::from(DVSEC_ID))
    })?;
    found.ok_or_else(|| ProbeError::NoVitals {
        path: config.path().display().to_string(),
    })
}

/// The Device Serial Number, in the form of an EUI-64.
///
/// # Errors
/// As [`ConfigSpace::find_extended`]; a function without the capability has `None`.
pub fn serial_number(config: &ConfigSpace) -> Result<Option<String>, ProbeError> {
    let Some(offset) = config.find_extended(extended::DSN, |_, _| Ok(true))? else {
        return Ok(None);
    };
    let [low, high] = config.read(offset + dsn::LOW)?;
    let value = u64::from(high) << 32 | u64::from(low);
    let bytes = value.to_be_bytes().map(|byte| format!("{byte:02x}"));
    Ok(Some(bytes.join("-")))
}
