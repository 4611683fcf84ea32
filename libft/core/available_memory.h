// How much memory this process can still take. In a container that is less than the machine has: a control group's
// limit kills whoever goes beyond it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace ft {

// Bytes: the least of what the kernel calls available and of what is left of each limit that the process is under,
// those of its control groups (versions 1 and 2) and of the groups around them. Memory that only caches files counts as
// free, since the kernel takes it back. Nothing where /proc tells neither. `root` stands for "/", without a slash at
// its end.
std::optional<size_t> available_memory(const std::string& root = "");

}  // namespace ft
