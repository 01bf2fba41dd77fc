//! How much memory the control groups of this process leave it, by both versions of their file system
//! (Linux `admin-guide/cgroup-v2` and `admin-guide/cgroup-v1/memory`).

use std::path::Path;

/// A folder of groups, and the files in each that limit memory.
type Place = (&'static str, &'static [&'static str]);

/// Where each version keeps its groups; version 2 lies in `unified` where it stands beside version 1.
const VERSION_1: &[Place] = &[("/sys/fs/cgroup/memory", &["memory.limit_in_bytes"])];
const VERSION_2: &[Place] = &[
    ("/sys/fs/cgroup", &["memory.max", "memory.high"]),
    ("/sys/fs/cgroup/unified", &["memory.max", "memory.high"]),
];

/// Version 1 says "no limit" with a number that no machine has.
const NO_LIMIT: u64 = 1 << 60;

/// The least limit of the groups in the text of `/proc/self/cgroup` and of all groups around them; `None`
/// without one. `read` gives the text of a file.
pub(super) fn memory_limit_bytes(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let limits = groups.lines().filter_map(places).flat_map(|(places, group)| {
        places.iter().filter_map(|place| least_on_the_way(*place, group, &read)).collect::<Vec<u64>>()
    });
    limits.min()
}

/// A line is `<number>:<controllers>:<group>`; version 2 has no controllers in it.
fn places(line: &str) -> Option<(&'static [Place], &str)> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, group) = (parts.next()?, parts.next()?);
    if controllers.is_empty() {
        Some((VERSION_2, group))
    } else {
        controllers.split(',').any(|controller| controller == "memory").then_some((VERSION_1, group))
    }
}

/// A group may use no more than any group around it. In a container the group's own path may not exist, and
/// the topmost folder is the container's group.
fn least_on_the_way(
    (mount, files): Place,
    group: &str,
    read: &impl Fn(&Path) -> Option<String>,
) -> Option<u64> {
    let group = Path::new(group.trim_start_matches('/'));
    let folders = group.ancestors().map(|group| Path::new(mount).join(group));
    let texts = folders.flat_map(|folder| files.iter().filter_map(move |file| read(&folder.join(file))));
    texts.filter_map(|text| text.trim().parse().ok()).filter(|bytes| *bytes < NO_LIMIT).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(groups: &str, files: &[(&str, &str)], expected: Option<u64>) {
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new("/sys/fs/cgroup").join(name) == path);
            found.map(|(_, text)| format!("{text}\n"))
        };
        assert_eq!(memory_limit_bytes(groups, read), expected, "{groups} {files:?}");
    }

    #[test]
    fn the_least_limit_of_all_groups_around_counts() {
        let two = "0::/user.slice/job\n";
        check(two, &[], None);
        check(two, &[("user.slice/job/memory.max", "max"), ("user.slice/job/memory.high", "max")], None);
        check(two, &[("user.slice/job/memory.max", "4096"), ("user.slice/memory.max", "max")], Some(4096));
        check(two, &[("user.slice/job/memory.max", "4096"), ("user.slice/memory.high", "1024")], Some(1024));
        check(two, &[("other/memory.max", "1")], None);
        // In a container the group is known by a path that exists only outside.
        check(two, &[("memory.max", "2048")], Some(2048));
    }

    #[test]
    fn version_1_names_the_controller_and_has_a_number_for_no_limit() {
        let one = "5:cpu,cpuacct:/a\n4:hugetlb,memory:/a/b\n1:name=systemd:/a\n0::/\n";
        check(one, &[("memory/a/b/memory.limit_in_bytes", "9223372036854771712")], None);
        check(
            one,
            &[("memory/a/b/memory.limit_in_bytes", "8192"), ("memory/a/memory.limit_in_bytes", "16384")],
            Some(8192),
        );
        check(one, &[("memory/memory.limit_in_bytes", "512"), ("unified/memory.max", "256")], Some(256));
    }

    #[test]
    fn what_cannot_be_read_is_no_limit() {
        check("", &[("memory.max", "1")], None);
        check("nonsense\n0:\n", &[("memory.max", "1")], None);
        check("0::/\n", &[("memory.max", "many")], None);
    }
}
