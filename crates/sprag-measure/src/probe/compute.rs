//! Peaks of arithmetic that are really reached: many independent chains of one instruction, nothing from memory.

use std::hint::black_box;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::threads::{timed, visits};
use super::{Effort, Sample};

/// What multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Whatever the compiler makes of plain Rust.
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512.
    Avx512,
    /// AVX-512 BF16 (`vdpbf16ps`).
    Avx512Bf16,
    /// AVX-512 VNNI (`vpdpbusd`).
    Avx512Vnni,
    /// AMX (`tdpbf16ps`, `tdpbssd`).
    Amx,
    /// NEON.
    Neon,
}

impl Unit {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Unit::Portable => "portable",
            Unit::Avx2 => "AVX2",
            Unit::Avx512 => "AVX-512",
            Unit::Avx512Bf16 => "AVX-512 BF16",
            Unit::Avx512Vnni => "AVX-512 VNNI",
            Unit::Amx => "AMX",
            Unit::Neon => "NEON",
        }
    }
}

/// One peak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arithmetic {
    /// `fp32`, `bf16` or `int8`.
    pub precision: String,
    /// By what.
    pub unit: Unit,
    /// On so many threads.
    pub threads: u32,
    /// Operations a second, a multiplication and an addition being two.
    pub operations_per_second: Sample,
}

/// One kernel: does so many rounds, and says how many operations a round is.
struct Kernel {
    precision: &'static str,
    unit: Unit,
    operations: f64,
    run: fn(u64),
}

/// Instructions of a round: enough chains to fill any pipeline.
const CHAINS: usize = 16;

/// The same where there are few registers.
const PORTABLE_CHAINS: usize = 8;

/// Kernels that this processor can run.
fn kernels() -> Vec<Kernel> {
    let mut kernels = vec![Kernel {
        precision: "fp32",
        unit: Unit::Portable,
        operations: (PORTABLE_CHAINS * 4 * 2) as f64,
        run: portable,
    }];
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let mut add = |there: bool, precision, unit, lanes: usize, per_lane: usize, run| {
            let operations = (CHAINS * lanes * per_lane) as f64;
            if there {
                kernels.push(Kernel { precision, unit, operations, run });
            }
        };
        add(has!("avx2") && has!("fma"), "fp32", Unit::Avx2, 8, 2, x86::fma256 as fn(u64));
        add(has!("avx512f"), "fp32", Unit::Avx512, 16, 2, x86::fma512);
        add(has!("avx512f") && has!("avx512bf16"), "bf16", Unit::Avx512Bf16, 16, 4, x86::dot_bf16);
        add(has!("avx512f") && has!("avx512vnni"), "int8", Unit::Avx512Vnni, 16, 8, x86::dot_int8);
        // A lane is a sum of a tile, to which 32 or 64 products are added.
        add(amx::has(amx::BF16), "bf16", Unit::Amx, 16 * 16, 64, amx::multiply_bf16);
        add(amx::has(amx::INT8), "int8", Unit::Amx, 16 * 16, 128, amx::multiply_int8);
    }
    #[cfg(target_arch = "aarch64")]
    kernels.push(Kernel {
        precision: "fp32",
        unit: Unit::Neon,
        operations: (CHAINS * 4 * 2) as f64,
        run: neon::fma,
    });
    kernels
}

/// On one core and on all.
pub fn measure(effort: Effort, cores: &[usize]) -> Vec<Arithmetic> {
    let kernels: Vec<(Kernel, u64)> = kernels()
        .into_iter()
        .map(|kernel| {
            let rounds = rounds(&kernel, effort.go());
            (kernel, rounds)
        })
        .collect();
    let counts = if cores.len() > 1 { vec![1, cores.len()] } else { vec![1] };
    let works: Vec<(&(Kernel, u64), usize)> =
        kernels.iter().flat_map(|kernel| counts.iter().map(move |threads| (kernel, *threads))).collect();
    let rates = visits(effort, works.len(), &mut |at, goes| {
        let ((kernel, rounds), threads) = works[at];
        let seconds = timed(&cores[..threads], goes, &|_| (), &|()| (kernel.run)(*rounds));
        let operations = kernel.operations * *rounds as f64 * threads as f64;
        seconds.iter().map(|seconds| operations / seconds).collect()
    });
    let one = |(((kernel, _), threads), rates): (&(&(Kernel, u64), usize), Vec<f64>)| {
        Some(Arithmetic {
            precision: kernel.precision.to_owned(),
            unit: kernel.unit,
            threads: *threads as u32,
            operations_per_second: Sample::of(&rates)?,
        })
    };
    works.iter().zip(rates).filter_map(one).collect()
}

/// As many as take about so long.
fn rounds(kernel: &Kernel, go: Duration) -> u64 {
    let mut rounds = 10_000;
    loop {
        let began = std::time::Instant::now();
        (kernel.run)(rounds);
        let took = began.elapsed();
        if took >= go / 8 {
            return ((rounds as f64 * go.as_secs_f64() / took.as_secs_f64()) as u64).max(1);
        }
        rounds *= 4;
    }
}

fn portable(rounds: u64) {
    let mut sums = [[0.0_f32; 4]; PORTABLE_CHAINS];
    let (x, y) = (black_box(0.999_f32), black_box(0.001_f32));
    for _ in 0..rounds {
        for sum in &mut sums {
            for lane in sum {
                *lane = *lane * x + y;
            }
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm256_fmadd_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm512_dpbf16_ps,
        _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_ps,
        _mm512_setzero_ps, _mm512_setzero_si512,
    };
    use std::hint::black_box;

    use super::CHAINS;

    pub fn fma256(rounds: u64) {
        #[target_feature(enable = "avx2,fma")]
        fn run(rounds: u64) {
            let (x, y) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
            // Twelve chains and two factors: all of the sixteen registers that there are.
            let mut sums = [_mm256_setzero_ps(); 12];
            let mut left = rounds * CHAINS as u64;
            while left >= 12 {
                for sum in &mut sums {
                    *sum = _mm256_fmadd_ps(*sum, x, y);
                }
                left -= 12;
            }
            black_box(sums);
        }
        // SAFETY: it is listed only where the processor has both.
        unsafe { run(rounds) }
    }

    pub fn fma512(rounds: u64) {
        #[target_feature(enable = "avx512f")]
        fn run(rounds: u64) {
            let (x, y) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
            let mut sums = [_mm512_setzero_ps(); CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = _mm512_fmadd_ps(*sum, x, y);
                }
            }
            black_box(sums);
        }
        // SAFETY: it is listed only where the processor has it.
        unsafe { run(rounds) }
    }

    pub fn dot_bf16(rounds: u64) {
        #[target_feature(enable = "avx512f,avx512bf16")]
        fn run(rounds: u64) {
            // 1.0 and a small number in bfloat16.
            let (one, small) = (_mm512_set1_epi16(black_box(0x3F80)), _mm512_set1_epi16(black_box(0x3A83)));
            // SAFETY: both types are 512 bits without any that are not allowed.
            let as_bf16 = |bits: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) };
            let (one, small) = (as_bf16(one), as_bf16(small));
            let mut sums = [_mm512_setzero_ps(); CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = _mm512_dpbf16_ps(*sum, one, small);
                }
            }
            black_box(sums);
        }
        // SAFETY: it is listed only where the processor has both.
        unsafe { run(rounds) }
    }

    pub fn dot_int8(rounds: u64) {
        #[target_feature(enable = "avx512f,avx512vnni")]
        fn run(rounds: u64) {
            let (x, y) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(5)));
            let mut sums = [_mm512_setzero_si512(); CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = _mm512_dpbusd_epi32(*sum, x, y);
                }
            }
            black_box(sums);
        }
        // SAFETY: it is listed only where the processor has both.
        unsafe { run(rounds) }
    }
}

/// Tiles: registers of 16 rows by 64 bytes. No stable compiler has functions for them, so their instructions are
/// written out.
#[cfg(target_arch = "x86_64")]
mod amx {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;

    use super::CHAINS;

    /// Bits of what the processor presents (leaf 7).
    pub const BF16: u32 = 1 << 22;
    pub const INT8: u32 = 1 << 25;
    const TILES: u32 = 1 << 24;

    /// True where the processor has tiles and what multiplies so, and the system lends them to this process.
    pub fn has(what: u32) -> bool {
        let there = std::arch::is_x86_feature_detected!("avx512f")
            && __cpuid_count(7, 0).edx & (TILES | what) == TILES | what;
        there && permitted()
    }

    /// Linux keeps these registers only for processes that ask; where it cannot, it says so.
    fn permitted() -> bool {
        #[cfg(target_os = "linux")]
        {
            const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
            const TILE_DATA: libc::c_long = 18;
            // SAFETY: the call takes two numbers.
            unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
        }
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// Sets all tiles up at their full size, which fills them with zeros, does so many rounds in four chains, which
    /// hide what an instruction takes, and gives the tiles back. Other factors could make the processor warmer, and its
    /// clock slower.
    macro_rules! rounds {
        ($rounds:expr, $instruction:literal) => {{
            let mut setup = [0_u8; 64];
            setup[0] = 1;
            for tile in 0..8 {
                setup[16 + 2 * tile] = 64;
                setup[48 + tile] = 16;
            }
            // SAFETY: listed only where the processor has the instructions and the process may use them; they touch
            // tiles, which nothing else here knows, and no memory but `setup`.
            unsafe {
                asm!(
                    "ldtilecfg [{setup}]",
                    "2:",
                    concat!($instruction, " tmm0, tmm4, tmm6"),
                    concat!($instruction, " tmm1, tmm4, tmm7"),
                    concat!($instruction, " tmm2, tmm5, tmm6"),
                    concat!($instruction, " tmm3, tmm5, tmm7"),
                    "dec {count}",
                    "jnz 2b",
                    "tilerelease",
                    setup = in(reg) setup.as_ptr(),
                    count = inout(reg) ($rounds * CHAINS as u64 / 4).max(1) => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }};
    }

    pub fn multiply_bf16(rounds: u64) {
        rounds!(rounds, "tdpbf16ps");
    }

    pub fn multiply_int8(rounds: u64) {
        rounds!(rounds, "tdpbssd");
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::{vdupq_n_f32, vfmaq_f32};
    use std::hint::black_box;

    use super::CHAINS;

    pub fn fma(rounds: u64) {
        // SAFETY: every processor of this architecture that Rust's standard library runs on has NEON.
        unsafe {
            let (x, y) = (vdupq_n_f32(black_box(0.999)), vdupq_n_f32(black_box(0.001)));
            let mut sums = [vdupq_n_f32(0.0); CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = vfmaq_f32(y, *sum, x);
                }
            }
            black_box(sums);
        }
    }
}
