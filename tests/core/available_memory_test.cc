// How much memory is free, in drawn trees of /proc and /sys: a machine alone, containers of both versions of control
// groups, groups within groups, and what such files may hold that says nothing.
#include "core/available_memory.h"

#include <algorithm>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "folder.h"

using namespace ft;

namespace {

constexpr size_t none = std::numeric_limits<size_t>::max();

// What mountinfo has beside the hierarchy of memory: none of it counts.
constexpr const char* other_mounts =
    "22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw,discard\n"
    "23 22 0:21 / /proc rw,nosuid - proc proc rw\n"
    "30 29 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
    "31 22 0:40 / /tmp rw - tmpfs memory rw\n";

std::string lines(size_t inactive, size_t active, const std::string& prefix) {
  return cat("anon 5\n", prefix, "inactive_file ", inactive, "\n", prefix, "active_file ", active, "\nslab 7\n");
}

// A control group of drawn numbers; what is left below its limit, or `none`.
size_t draw_group(test::folder& root, const std::string& folder, bool is_version_1, std::mt19937_64& random) {
  const size_t limit = (size_t{1} << 20) + random() % (size_t{1} << 40), usage = random() % (limit + limit / 8);
  const size_t inactive = random() % (usage + 2), active = random() % (usage + 2);
  const bool unlimited = random() % 3 == 0;
  if (is_version_1) {
    root.write(folder + "/memory.limit_in_bytes", cat(unlimited ? 9223372036854771712u : limit, "\n"));
    root.write(folder + "/memory.usage_in_bytes", cat(usage, "\n"));
    root.write(folder + "/memory.stat", lines(3, 4, "") + lines(inactive, active, "total_"));
  } else {
    root.write(folder + "/memory.max", unlimited ? "max\n" : cat(limit, "\n"));
    root.write(folder + "/memory.current", cat(usage, "\n"));
    root.write(folder + "/memory.stat", lines(inactive, active, ""));
  }
  if (unlimited && !is_version_1) return none;
  const size_t taken = inactive + active < usage ? usage - inactive - active : 0,
               most = unlimited ? 9223372036854771712u : limit;
  return taken < most ? most - taken : 0;
}

}  // namespace

TEST(available_memory_is_the_least_of_all_limits) {
  for (int round = 0; round < 60; ++round) {
    const uint64_t seed = std::random_device{}();
    std::mt19937_64 random(seed);
    test::folder root;
    size_t expected = none;
    if (random() % 4) {
      const size_t kib = random() % (size_t{1} << 30);
      root.write("proc/meminfo",
                 cat("MemTotal:  99 kB\nMemFree:   98 kB\nMemAvailable:  ", kib, " kB\nBuffers: 1 kB\n"));
      expected = kib * 1024;
    }
    const bool is_version_1 = random() % 2;
    const std::string mount = random() % 2 ? "/sys/fs/cgroup" : "/mnt/two words";
    const std::string written = mount == "/sys/fs/cgroup" ? mount : "/mnt/two\\040words";

    // The process is so many groups deep, and the mount shows them from one of these on, of which all limits count.
    std::vector<std::string> path{""};
    for (size_t depth = random() % 4; depth > 0; --depth)
      path.push_back(cat(path.back(), "/g", random() % 9, ".slice"));
    const std::string top = path[random() % path.size()];
    for (const std::string& group : path)
      if (group.size() >= top.size())
        expected = std::min(expected, draw_group(root, mount + group.substr(top.size()), is_version_1, random));

    const std::string group = path.back().empty() ? "/" : path.back(), root_of_mount = top.empty() ? "/" : top;
    root.write("proc/self/cgroup", is_version_1 ? cat("12:cpu,cpuacct:/elsewhere\n5:memory:", group, "\n0::/init\n")
                                                : cat("1:name=systemd:/elsewhere\n0::", group, "\n"));
    root.write("proc/self/mountinfo",
               cat(other_mounts, "40 29 0:30 ", root_of_mount, " ", written, " ro,nosuid shared:9 master:2 - ",
                   is_version_1 ? "cgroup cgroup rw,memory\n" : "cgroup2 cgroup2 rw,nsdelegate\n", "50 1 0:1 /\n"));
    CHECK_MSG(available_memory(root.path()).value_or(none) == expected, "seed ", seed, ": ",
              available_memory(root.path()).value_or(none), " != ", expected);
  }
}

// A container that sees the host's name of its group, but has only its own group mounted.
TEST(available_memory_of_a_group_under_another_name) {
  for (const char* name : {"/docker/0123", "/../sibling", "/dock"}) {
    test::folder root;
    root.write("proc/meminfo", "MemAvailable: 1000 kB\n");
    root.write("proc/self/cgroup", cat("3:memory:", name, "\n"));
    root.write("proc/self/mountinfo", "40 29 0:30 /docker /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
    root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n");
    root.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n");
    CHECK_EQ(available_memory(root.path()).value_or(none), 4000u);
  }
}

TEST(available_memory_where_little_can_be_read) {
  test::folder root;
  CHECK(!available_memory(root.path()));
  root.write("proc/meminfo", "MemAvailable: lots\n").write("proc/self/cgroup", "no\n:\n0::\n7:memory:/a\n");
  root.write("proc/self/mountinfo", "- \n1 2 3 / /sys - cgroup2 x\n1 2 3 / /sys - cgroup x rw,memory");
  CHECK(!available_memory(root.path()));
  root.write("sys/memory.max", "max\n").write("sys/memory.current", "");
  CHECK(!available_memory(root.path()));
  root.write("sys/a/memory.limit_in_bytes", "100\n").write("sys/a/memory.usage_in_bytes", "300\n");
  CHECK_EQ(available_memory(root.path()).value_or(none), 0u);
}

TEST(available_memory_of_this_machine) {
  const auto found = available_memory();
  CHECK(found && *found > 0);
}
