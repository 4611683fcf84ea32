// What a thread of the library does first.
#pragma once

#include <exception>

namespace ft {

// Has the C++ runtime take the memory that a thread's first exception needs: taken when std::bad_alloc is on its way,
// it might not be there, and the process would end.
inline void begin_thread() { (void)std::uncaught_exceptions(); }

}  // namespace ft
