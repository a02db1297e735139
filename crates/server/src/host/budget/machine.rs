//! Memory of this machine: `ram` and `cgroup_limit`, from Linux's files

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the bytes of RAM; `None` if unknown.
pub(super) fn ram() -> Option<u64> {
    ram_in(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// Returns the memory limit of this process's control group, version 1 or 2, in bytes; `None` for no limit.
pub(super) fn cgroup_limit() -> Option<u64> {
    limit_by(&|path| fs::read_to_string(path).ok())
}

fn ram_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Returns the smallest limit from the group to the root of each hierarchy, since each applies.
fn limit_by(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let (groups, mounts) = (read(Path::new("/proc/self/cgroup"))?, read(Path::new("/proc/self/mountinfo"))?);
    let hierarchies = groups.lines().filter_map(Hierarchy::of_group);
    let limits = hierarchies.filter_map(|(hierarchy, group)| {
        let (root, mount) = mounts.lines().find_map(|line| hierarchy.mounted(line))?;
        // The mount may be part of the hierarchy, and in a container the group may lie outside of it.
        let within = Path::new(group).strip_prefix(&root).unwrap_or_else(|_| Path::new(""));
        let place = mount.join(within);
        let places = place.ancestors().take_while(|place| place.starts_with(&mount));
        places.filter_map(|place| read(&place.join(hierarchy.file()))?.trim().parse().ok()).min()
    });
    limits.min()
}

/// Control group hierarchy that may limit memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hierarchy {
    /// Version 1, with the memory controller
    One,
    Two,
}

impl Hierarchy {
    /// Reads a line of `/proc/self/cgroup`: number, controllers, path (cgroups(7)).
    fn of_group(line: &str) -> Option<(Self, &str)> {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match (number, controllers) {
            ("0", "") => Some((Self::Two, path)),
            _ if controllers.split(',').any(|name| name == "memory") => Some((Self::One, path)),
            _ => None,
        }
    }

    /// Reads a line of `/proc/self/mountinfo` (proc(5)): root and mount point, if it is this hierarchy.
    fn mounted(self, line: &str) -> Option<(PathBuf, PathBuf)> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, mount) = (place.next()?, place.next()?);
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1)?);
        let fits = match self {
            Self::One => name == "cgroup" && options.split(',').any(|option| option == "memory"),
            Self::Two => name == "cgroup2",
        };
        fits.then(|| (unescaped(root), unescaped(mount)))
    }

    fn file(self) -> &'static str {
        match self {
            Self::One => "memory.limit_in_bytes",
            Self::Two => "memory.max",
        }
    }
}

/// Decodes octal escapes of blanks in a path.
fn unescaped(path: &str) -> PathBuf {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the limit on a machine with these files.
    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        limit_by(&|path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path)?;
            Some(file.1.to_owned())
        })
    }

    const VERSION_2: &str = "25 1 0:22 / /sys rw - sysfs sysfs rw
31 25 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn reads_ram_of_machine() {
        let meminfo = "MemTotal:       16315416 kB\nMemFree:         1234 kB\n";
        assert_eq!(ram_in(meminfo), Some(16_315_416 * 1024));
        assert_eq!(ram_in("MemFree: 1 kB\n"), None);
        assert_eq!(ram_in("MemTotal: many kB\n"), None);
        assert!(!cfg!(target_os = "linux") || ram().is_some_and(|ram| ram > 1 << 20));
    }

    #[test]
    fn finds_smallest_limit_above_group() {
        let group = ("/proc/self/cgroup", "0::/system.slice/chat.service\n");
        let files = [
            group,
            ("/proc/self/mountinfo", VERSION_2),
            ("/sys/fs/cgroup/system.slice/chat.service/memory.max", "max\n"),
            ("/sys/fs/cgroup/system.slice/memory.max", "536870912\n"),
        ];
        assert_eq!(limit(&files), Some(512 << 20));
        assert_eq!(limit(&files[..3]), None);
        let nearer = ("/sys/fs/cgroup/system.slice/chat.service/memory.max", "1048576\n");
        assert_eq!(limit(&[group, files[1], nearer, files[3]]), Some(1 << 20));
    }

    #[test]
    fn finds_container_limit() {
        // In its own namespace the group is the root of the mount.
        let max = ("/sys/fs/cgroup/memory.max", "268435456\n");
        assert_eq!(
            limit(&[("/proc/self/cgroup", "0::/\n"), ("/proc/self/mountinfo", VERSION_2), max]),
            Some(256 << 20)
        );
        // Without one the path is the host's, which is not mounted here.
        let outside = ("/proc/self/cgroup", "0::/../docker/0123\n");
        assert_eq!(limit(&[outside, ("/proc/self/mountinfo", VERSION_2), max]), Some(256 << 20));
    }

    #[test]
    fn finds_limit_of_version_1() {
        let mounts = "30 24 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs ro
40 30 0:30 /docker/0123 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct
41 30 0:31 /docker/0123 /sys/fs/cgroup/memory ro master:15 - cgroup cgroup rw,memory
42 30 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let groups = "9:cpu,cpuacct:/docker/0123\n4:hugetlb,memory:/docker/0123/inner\n0::/\n";
        let files = [
            ("/proc/self/cgroup", groups),
            ("/proc/self/mountinfo", mounts),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n"),
            ("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(limit(&files), Some(128 << 20));
    }

    #[test]
    fn odd_files_are_no_limit() {
        assert_eq!(limit(&[]), None);
        assert_eq!(
            limit(&[("/proc/self/cgroup", "x\n::\n0::\n"), ("/proc/self/mountinfo", "- \n a - b\n")]),
            None
        );
        let spaced = "1 1 0:1 / /a\\040b rw - cgroup2 none rw\n";
        let max = ("/a b/memory.max", "7");
        assert_eq!(limit(&[("/proc/self/cgroup", "0::/\n"), ("/proc/self/mountinfo", spaced), max]), Some(7));
    }
}
