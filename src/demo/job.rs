//! The job: the network on a chip, through the driver.

use std::time::Duration;

use auk_asic::program::Program;
use auk_driver::{
    Command, Device, DeviceMemory, DmaBuffer, Error, IoQueue, LoadedProgram, QueueOptions, Ticket,
};

use super::digits::{COUNT, LAYERS, PIXELS, pixels};

/// Images of one batch.
pub(super) const BATCH: usize = 16;
/// Commands of one batch: a product and a copy a layer.
pub(super) const COMMANDS: usize = 2 * LAYERS.len();
/// A batch takes well under a millisecond.
const BATCH_DEADLINE: Duration = Duration::from_secs(5);

/// The network on a chip: programs and weights loaded, a queue to launch them from.
pub(super) struct Network {
    queue: IoQueue,
    input: DmaBuffer,
    layers: Vec<LoadedLayer>,
    tickets: Vec<Ticket>,
}

struct LoadedLayer {
    program: LoadedProgram,
    params: DeviceMemory,
    on_chip: DeviceMemory,
    output: DmaBuffer,
}

impl Network {
    /// Loads programs and weights.
    pub(super) fn load(device: &Device) -> Result<Self, Error> {
        let mut queue = device.create_queue(&QueueOptions::default())?;
        let mut layers = Vec::new();
        for layer in &LAYERS {
            let bytes = layer.gemm.output_bytes(BATCH as u32);
            let params = device.alloc(layer.gemm.params().length)?;
            queue.upload(&params, 0, layer.params, BATCH_DEADLINE)?;
            layers.push(LoadedLayer {
                program: device.load(&Program::Gemm(layer.gemm))?,
                params,
                on_chip: device.alloc(bytes)?,
                output: device.buffer(bytes as usize)?,
            });
        }
        let input = device.buffer(BATCH * PIXELS)?;
        Ok(Self {
            queue,
            input,
            layers,
            tickets: Vec::with_capacity(COMMANDS),
        })
    }

    /// Runs up to [`BATCH`] images and gives the output of each layer. After an error no output is given.
    pub(super) fn run(&mut self, pixels: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let rows = (pixels.len() / PIXELS) as u32;
        self.input.write(0, pixels)?;
        let mut commands: Vec<Command<'_>> = Vec::with_capacity(COMMANDS);
        for (index, loaded) in self.layers.iter().enumerate() {
            let LoadedLayer {
                program,
                params,
                on_chip,
                ..
            } = loaded;
            let product = match index
                .checked_sub(1)
                .and_then(|before| self.layers.get(before))
            {
                None => Command::gemm(program, rows, on_chip, &self.input, params),
                Some(before) => Command::gemm(program, rows, on_chip, &before.on_chip, params),
            };
            commands.push(product.fenced());
        }
        for (loaded, layer) in self.layers.iter().zip(&LAYERS) {
            let length = layer.gemm.output_bytes(rows);
            commands.push(Command::copy(&loaded.output, &loaded.on_chip, length).fenced());
        }
        self.tickets.clear();
        self.queue.submit_batch(&commands, &mut self.tickets)?;
        // Every outcome is collected; the first that is an error is the batch's.
        let mut outcome = Ok(());
        for ticket in self.tickets.drain(..) {
            outcome = outcome.and(self.queue.wait(ticket, BATCH_DEADLINE).map(drop));
        }
        outcome?;
        let mut outputs = Vec::with_capacity(LAYERS.len());
        for (loaded, layer) in self.layers.iter().zip(&LAYERS) {
            let mut bytes = vec![0; layer.gemm.output_bytes(rows) as usize];
            loaded.output.read(0, &mut bytes)?;
            outputs.push(bytes);
        }
        Ok(outputs)
    }
}

/// The pixels of a batch; the last one may be short.
pub(super) fn batch_pixels(batch: usize) -> &'static [u8] {
    let first = batch * BATCH;
    pixels(first, BATCH.min(COUNT - first))
}
