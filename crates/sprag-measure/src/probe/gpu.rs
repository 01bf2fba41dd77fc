//! GPUs through wgpu: Vulkan, Metal, Direct3D 12. Copies, arithmetic and a product in single precision by shaders written
//! here, and what starting nothing costs. A GPU that is emulated on the processor is named as one.

use serde::{Deserialize, Serialize};

use super::Sample;

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gpus {
    /// These.
    Found(Vec<Gpu>),
    /// None, and why.
    None(String),
}

impl Default for Gpus {
    fn default() -> Gpus {
        Gpus::None("this program was built without the feature `wgpu`".to_owned())
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// As its driver names it.
    pub name: String,
    /// Vulkan, Metal, ...
    pub backend: String,
    /// Driver and version.
    pub driver: String,
    /// Discrete, integrated, or the processor itself.
    pub kind: String,
    /// What NVIDIA's driver tells besides: power, clocks, memory; or why not.
    #[serde(default)]
    pub management: Option<String>,
    /// What was measured; or why not.
    pub measured: Result<GpuFigures, String>,
}

/// Figures of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuFigures {
    /// `a = b` by a shader, read and written bytes counted.
    pub copy_bytes_per_second: Sample,
    /// Fused multiplications and additions in registers, in single precision; shaders alone measure it.
    #[serde(default)]
    pub fp32_flop_per_second: Option<Sample>,
    /// A square product in single precision: of 1024 by a shader, of 4096 by cuBLAS.
    pub product_flop_per_second: Sample,
    /// The same in bf16; cuBLAS alone does it.
    #[serde(default)]
    pub bf16_product_flop_per_second: Option<Sample>,
    /// From handing over next to nothing until its end is known.
    pub dispatch_seconds: Sample,
}

/// Looks for them and measures each.
#[cfg(not(feature = "wgpu"))]
pub fn measure(_: super::Effort) -> Gpus {
    Gpus::default()
}

/// Looks for them and measures each; through CUDA besides, where that is built in.
#[cfg(feature = "wgpu")]
pub fn measure(effort: super::Effort) -> Gpus {
    let found = through_wgpu::measure(effort);
    #[cfg(feature = "cuda")]
    let found = match (found, super::cuda::measure(effort)) {
        (Gpus::Found(mut all), Ok(cards)) => {
            all.extend(cards);
            Gpus::Found(all)
        }
        (Gpus::None(_), Ok(cards)) => Gpus::Found(cards),
        (Gpus::None(why), Err(also)) => Gpus::None(format!("{why}; {also}")),
        // Who built CUDA in wants to know why it says nothing.
        (Gpus::Found(mut all), Err(why)) => {
            all.push(Gpu {
                name: "NVIDIA cards".to_owned(),
                backend: "CUDA".to_owned(),
                driver: "none".to_owned(),
                kind: "none".to_owned(),
                management: None,
                measured: Err(why),
            });
            Gpus::Found(all)
        }
    };
    found
}

#[cfg(feature = "wgpu")]
mod through_wgpu {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::task::{Context, Poll, Waker};
    use std::time::Instant;

    use wgpu::{
        Adapter, BindGroupDescriptor, BindGroupEntry, Buffer, BufferDescriptor, BufferUsages,
        CommandEncoderDescriptor, ComputePassDescriptor, ComputePipeline, ComputePipelineDescriptor, Device,
        DeviceDescriptor, DeviceType, Instance, InstanceDescriptor, PollType, Queue, ShaderModuleDescriptor,
        ShaderSource,
    };

    use super::super::{Effort, Sample};
    use super::{Gpu, GpuFigures, Gpus};

    /// Bytes that are copied, where the device allows so much.
    const COPY_BYTES: u64 = 128 << 20;
    /// Rows, columns and depth of the product.
    const SIDE: u32 = 1024;
    /// Threads of the arithmetic, and rounds of eight fused operations on four numbers.
    const THREADS: u32 = 1 << 16;
    const ROUNDS: u32 = 256;

    const COPY: &str = "
        @group(0) @binding(0) var<storage, read> input: array<vec4<f32>>;
        @group(0) @binding(1) var<storage, read_write> result: array<vec4<f32>>;
        @compute @workgroup_size(256)
        fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
            let at = id.x + id.y * groups.x * 256u;
            if (at < arrayLength(&result)) { result[at] = input[at]; }
        }";

    const ARITHMETIC: &str = "
        @group(0) @binding(0) var<storage, read> input: array<vec4<f32>>;
        @group(0) @binding(1) var<storage, read_write> result: array<vec4<f32>>;
        @compute @workgroup_size(256)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let factor = input[0];
            let more = input[1];
            var a = vec4<f32>(f32(id.x)); var b = a + 1.0; var c = a + 2.0; var d = a + 3.0;
            var e = a + 4.0; var f = a + 5.0; var g = a + 6.0; var h = a + 7.0;
            for (var round = 0u; round < 256u; round++) {
                a = fma(a, factor, more); b = fma(b, factor, more); c = fma(c, factor, more); d = fma(d, factor, more);
                e = fma(e, factor, more); f = fma(f, factor, more); g = fma(g, factor, more); h = fma(h, factor, more);
            }
            result[id.x] = a + b + c + d + e + f + g + h;
        }";

    const PRODUCT: &str = "
        @group(0) @binding(0) var<storage, read> input: array<f32>;
        @group(0) @binding(1) var<storage, read_write> result: array<f32>;
        var<workgroup> left: array<array<f32, 16>, 16>;
        var<workgroup> right: array<array<f32, 16>, 16>;
        @compute @workgroup_size(16, 16)
        fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_id) own: vec3<u32>) {
            var sum = 0.0;
            for (var tile = 0u; tile < 64u; tile++) {
                left[own.y][own.x] = input[id.y * 1024u + tile * 16u + own.x];
                right[own.y][own.x] = input[1048576u + (tile * 16u + own.y) * 1024u + id.x];
                workgroupBarrier();
                for (var k = 0u; k < 16u; k++) { sum = fma(left[own.y][k], right[k][own.x], sum); }
                workgroupBarrier();
            }
            result[id.y * 1024u + id.x] = sum;
        }";

    const NOTHING: &str = "
        @group(0) @binding(0) var<storage, read> input: array<f32>;
        @group(0) @binding(1) var<storage, read_write> result: array<f32>;
        @compute @workgroup_size(1)
        fn main() { result[0] = input[0]; }";

    /// Waits for a future. Outside of browsers those of wgpu are ready at once.
    fn wait<F: Future>(future: F) -> F::Output {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            std::thread::yield_now();
        }
    }

    pub fn measure(effort: Effort) -> Gpus {
        let instance = Instance::new(InstanceDescriptor::new_without_display_handle());
        let adapters = wait(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let found: Vec<Gpu> = adapters.iter().map(|adapter| one(adapter, effort)).collect();
        match found.is_empty() {
            true => Gpus::None("no driver of Vulkan, Metal or Direct3D 12 tells of a GPU".to_owned()),
            false => Gpus::Found(found),
        }
    }

    fn one(adapter: &Adapter, effort: Effort) -> Gpu {
        let info = adapter.get_info();
        let kind = match info.device_type {
            DeviceType::DiscreteGpu => "discrete",
            DeviceType::IntegratedGpu => "integrated",
            DeviceType::VirtualGpu => "virtual",
            DeviceType::Cpu => "emulated on the processor",
            DeviceType::Other => "unknown",
        };
        Gpu {
            management: super::super::nvml::told(&info.name),
            name: info.name,
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            kind: kind.to_owned(),
            measured: figures(adapter, effort),
        }
    }

    fn figures(adapter: &Adapter, effort: Effort) -> Result<GpuFigures, String> {
        if effort == Effort::Quick && adapter.get_info().device_type == DeviceType::Cpu {
            return Err(
                "it is emulated on the processor, which takes longer than a quick probe may".to_owned()
            );
        }
        let limits = adapter.limits();
        let opened = wait(adapter.request_device(&DeviceDescriptor {
            required_limits: limits.clone(),
            ..DeviceDescriptor::default()
        }));
        let (device, queue) = opened.map_err(|cause| format!("it cannot be opened: {cause}"))?;
        let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let bytes = COPY_BYTES.min(most) / 4096 * 4096;
        if bytes < 16 << 20 {
            return Err(format!("its buffers end at {most} bytes"));
        }
        let bench = Bench::new(device, queue, bytes);
        // Workgroups are counted along two axes: one alone may be too short.
        let groups = u32::try_from(bytes / 16 / 256).unwrap_or(u32::MAX);
        let along = groups.min(limits.max_compute_workgroups_per_dimension);
        let copy = bench.rate(COPY, [along, groups.div_ceil(along)], 2.0 * bytes as f64, effort)?;
        let flop = f64::from(THREADS) * f64::from(ROUNDS) * 8.0 * 4.0 * 2.0;
        let arithmetic = bench.rate(ARITHMETIC, [THREADS / 256, 1], flop, effort)?;
        let flop = 2.0 * f64::from(SIDE).powi(3);
        let product = bench.rate(PRODUCT, [SIDE / 16, SIDE / 16], flop, effort)?;
        let nothing = bench.rate(NOTHING, [1, 1], 1.0, effort)?;
        let seconds = |rate: f64| 1.0 / rate;
        Ok(GpuFigures {
            copy_bytes_per_second: copy,
            fp32_flop_per_second: Some(arithmetic),
            product_flop_per_second: product,
            bf16_product_flop_per_second: None,
            dispatch_seconds: Sample {
                median: seconds(nothing.median),
                low: seconds(nothing.high),
                high: seconds(nothing.low),
                n: nothing.n,
            },
        })
    }

    struct Bench {
        /// What the device complained of first.
        fault: Arc<Mutex<Option<String>>>,
        device: Device,
        queue: Queue,
        from: Buffer,
        to: Buffer,
    }

    impl Bench {
        fn new(device: Device, queue: Queue, bytes: u64) -> Bench {
            let fault = Arc::new(Mutex::new(None));
            let heard = Arc::clone(&fault);
            // Without a listener an error is a panic.
            device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
                let mut first = heard.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(|| error.to_string());
            }));
            let buffer = |usage| {
                device.create_buffer(&BufferDescriptor {
                    label: None,
                    size: bytes,
                    usage: BufferUsages::STORAGE | usage,
                    mapped_at_creation: false,
                })
            };
            let (from, to) = (buffer(BufferUsages::COPY_DST), buffer(BufferUsages::COPY_SRC));
            // Numbers that neither grow nor vanish, in the part that arithmetic and products read.
            let numbers: Vec<u8> =
                (0..2 << 20).flat_map(|at| (0.25 + (at % 3) as f32 * 0.25).to_le_bytes()).collect();
            queue.write_buffer(&from, 0, &numbers);
            Bench { fault, device, queue, from, to }
        }

        /// Units a second of a shader that does so many in one go.
        fn rate(&self, shader: &str, groups: [u32; 2], units: f64, effort: Effort) -> Result<Sample, String> {
            let module = self.device.create_shader_module(ShaderModuleDescriptor {
                label: None,
                source: ShaderSource::Wgsl(shader.into()),
            });
            let pipeline = self.device.create_compute_pipeline(&ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: Default::default(),
                cache: None,
            });
            // Once for nothing, and to learn how many goes make up the time of one.
            self.time(&pipeline, groups, 1)?;
            let once = self.time(&pipeline, groups, 1)?;
            let wanted = effort.go().as_secs_f64();
            let repeat = if units == 1.0 { 1 } else { ((wanted / once) as u32).clamp(1, 1000) };
            // What is slow is asked less often.
            let goes = if once > 0.5 { 3 } else { effort.goes() };
            let seconds: Vec<f64> =
                (0..goes).map(|_| self.time(&pipeline, groups, repeat)).collect::<Result<_, _>>()?;
            let rates: Vec<f64> = seconds.iter().map(|seconds| units * f64::from(repeat) / seconds).collect();
            Sample::of(&rates).ok_or_else(|| "nothing was measured".to_owned())
        }

        fn time(&self, pipeline: &ComputePipeline, [x, y]: [u32; 2], repeat: u32) -> Result<f64, String> {
            let layout = pipeline.get_bind_group_layout(0);
            fn entry(binding: u32, buffer: &Buffer) -> BindGroupEntry<'_> {
                BindGroupEntry { binding, resource: buffer.as_entire_binding() }
            }
            let group = self.device.create_bind_group(&BindGroupDescriptor {
                label: None,
                layout: &layout,
                entries: &[entry(0, &self.from), entry(1, &self.to)],
            });
            let mut encoder = self.device.create_command_encoder(&CommandEncoderDescriptor::default());
            {
                let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
                pass.set_pipeline(pipeline);
                pass.set_bind_group(0, &group, &[]);
                for _ in 0..repeat {
                    pass.dispatch_workgroups(x, y, 1);
                }
            }
            let commands = encoder.finish();
            let began = Instant::now();
            self.queue.submit([commands]);
            let waited = self.device.poll(PollType::Wait { submission_index: None, timeout: None });
            waited.map_err(|cause| format!("it does not answer: {cause}"))?;
            if let Some(fault) = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Err(fault.lines().map(str::trim).collect::<Vec<_>>().join(" "));
            }
            Ok(began.elapsed().as_secs_f64())
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// Where there is no driver there is a reason; where there is one, even an emulated one, figures are sound.
        #[test]
        fn whatever_is_there_is_measured_or_named() {
            match measure(Effort::Normal) {
                Gpus::None(why) => assert!(why.contains("Vulkan")),
                Gpus::Found(gpus) => {
                    for gpu in gpus {
                        let figures = gpu.measured.unwrap_or_else(|why| panic!("{}: {why}", gpu.name));
                        assert!(figures.copy_bytes_per_second.median > 1e7, "{figures:?}");
                        assert!(figures.product_flop_per_second.median > 1e6, "{figures:?}");
                        assert!(figures.dispatch_seconds.low <= figures.dispatch_seconds.high);
                    }
                }
            }
        }
    }
}
