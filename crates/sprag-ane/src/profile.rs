//! Chips as far as programs can tell them apart: arithmetic, limits, and which restrictions hold on them. Where sources
//! contradict each other, each has a profile.

use std::borrow::Cow;

use crate::mil::Program;

/// A chip, or one source's account of a chip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Its name, `M4`.
    pub name: &'static str,
    /// What it stands for.
    pub about: &'static str,
    /// Largest number that a slice with a begin on the last axis leaves finite; `None` where all are.
    pub slice_limit: Option<f32>,
    /// Largest result of a product; beyond is infinite.
    pub product_limit: f32,
    /// Whether each product is rounded to a half before it is added up (one source says so; measured results do not tell it
    /// from exact products).
    pub rounded_products: bool,
    /// Most places along the last axis.
    pub most_width: u64,
    /// Smallest surface that evaluating takes, in bytes; 0 for any.
    pub least_surface: usize,
    /// Surfaces are multiples of so many bytes.
    pub surface_step: usize,
    /// How surfaces of several inputs or outputs relate.
    pub sizes: Sizes,
    /// Programs that one process can compile.
    pub compiles: u32,
    /// Whether loading a program again reads changed weight files.
    pub reload_reads_weights: bool,
    /// Whether a weight descriptor with a wrong size is refused.
    pub checks_blob_sizes: bool,
    /// Restrictions that are refused when compiling, by number, besides those that are refused everywhere.
    pub refuses: &'static [&'static str],
    /// Restrictions that do not hold here, by number.
    pub allows: &'static [&'static str],
}

/// Sizes of the surfaces of one program's inputs, or outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All equal, or evaluating fails.
    Equal,
    /// Inputs ascending and outputs descending, or the results are zeros.
    Sorted,
}

const M4: Profile = Profile {
    name: "M4",
    about: "maderix/ANE, ncdrone/autoresearch-ANE and ANEForge on M4 and M4 Max",
    slice_limit: None,
    product_limit: 32_752.0,
    rounded_products: false,
    most_width: 65_536,
    least_surface: 0,
    surface_step: 1,
    sizes: Sizes::Equal,
    compiles: 119,
    reload_reads_weights: false,
    checks_blob_sizes: false,
    refuses: &[],
    allows: &[
        "R01", "R04", "R19", "R30", "R31", "R32", "R33", "R34", "R36", "R39", "R40", "R41", "R42", "R44",
        "R52",
    ],
};

/// M1 and M2 lose large numbers in slices along the last axis (measured on M1, M1 Max and M2 Pro); M4 and M5 do not; M3 was
/// not measured, and is taken for an M4. The width of 16384 was measured on an M3 Ultra.
pub const PROFILES: [Profile; 8] = [
    Profile {
        name: "M1",
        about: "M1 family: issue 47 and pull request 6 of maderix/ANE, ANEForge",
        slice_limit: Some(4094.0),
        most_width: 16_384,
        sizes: Sizes::Sorted,
        refuses: &["R01", "R32", "R33", "R34", "R52"],
        allows: &["R04", "R12", "R19", "R30", "R31", "R39", "R40", "R41", "R42", "R44"],
        ..M4
    },
    Profile {
        name: "M2",
        about: "M2 family: pull request 6 of maderix/ANE, ANEForge on M2 Pro",
        slice_limit: Some(4094.0),
        most_width: 16_384,
        refuses: &["R32", "R33"],
        allows: &["R01", "R04", "R19", "R30", "R31", "R34", "R39", "R40", "R41", "R42", "R44", "R52"],
        ..M4
    },
    Profile {
        name: "M3",
        about: "M3 family: rustane on M3 Ultra, Espresso on M3 Max",
        most_width: 16_384,
        checks_blob_sizes: true,
        refuses: &["R31", "R41", "R42"],
        allows: &["R01", "R04", "R19", "R30", "R32", "R33", "R34", "R36", "R39", "R40", "R44", "R52"],
        ..M4
    },
    M4,
    Profile {
        name: "M5",
        about: "m5result.md of maderix/ANE, pull request 35, ANEForge on M5",
        surface_step: 128,
        refuses: &["R52"],
        allows: &["R01", "R04", "R19", "R30", "R31", "R32", "R33", "R34", "R36", "R41", "R42", "R44"],
        ..M4
    },
    Profile {
        name: "M4-orion",
        about: "M4 Max as Orion describes it: no concat, surfaces of 49152 bytes or more, weights read again",
        least_surface: 49_152,
        reload_reads_weights: true,
        checks_blob_sizes: true,
        refuses: &["R01"],
        allows: &["R30", "R31", "R32", "R33", "R34", "R36", "R39", "R40", "R41", "R42", "R44", "R52"],
        ..M4
    },
    Profile {
        name: "M4-rounded",
        about: "M4, with each product rounded to a half before it is added up (ANEForge, developer notes on numerics)",
        rounded_products: true,
        ..M4
    },
    Profile {
        name: "M4-e5rt",
        about: "M4 through the public e5rt entry points: joins take two inputs, attention keeps its mask, `gelu` is accepted",
        refuses: &["R44"],
        allows: &[
            "R01", "R04", "R06", "R10", "R15", "R19", "R30", "R31", "R32", "R33", "R34", "R36", "R39", "R40",
            "R41", "R42", "R52",
        ],
        ..M4
    },
];

impl Profile {
    /// The one of that name.
    ///
    /// # Errors
    /// The names that there are.
    pub fn of(name: &str) -> Result<Profile, String> {
        let found = PROFILES.into_iter().find(|profile| profile.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            let names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
            format!("no chip `{name}` is emulated; there are {}", names.join(", "))
        })
    }

    /// A program as this chip's compiler reads it: older ones take scalars in their longer form alone.
    pub fn dialect<'a>(&self, program: &'a Program) -> Cow<'a, Program> {
        match self.refuses.contains(&"R33") {
            true => Cow::Owned(program.for_old_compilers()),
            false => Cow::Borrowed(program),
        }
    }

    /// Whether a restriction does not hold here.
    pub fn allows(&self, rule: &str) -> bool {
        self.allows.contains(&rule)
    }
}

impl Default for Profile {
    fn default() -> Profile {
        M4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_no_profile_contradicts_itself() {
        assert_eq!(Profile::of("m5").unwrap().name, "M5");
        assert!(Profile::of("M9").unwrap_err().contains("M1, M2"));
        for profile in PROFILES {
            assert!(profile.refuses.iter().all(|rule| !profile.allows(rule)), "{}", profile.name);
        }
    }
}
