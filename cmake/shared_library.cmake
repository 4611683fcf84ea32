# What makes libft.so a well-behaved shared library: only ft_* symbols, versioned; every symbol resolved when it is
# linked; an SONAME.
include(CheckLinkerFlag)

set(FT_VERSION_MAP ${CMAKE_CURRENT_SOURCE_DIR}/cmake/ft.map)
check_linker_flag(CXX "-Wl,--version-script=${FT_VERSION_MAP}" FT_HAS_VERSION_SCRIPT)
if(FT_HAS_VERSION_SCRIPT)
  target_link_options(ft PRIVATE "LINKER:--version-script=${FT_VERSION_MAP}")
  set_property(TARGET ft APPEND PROPERTY LINK_DEPENDS ${FT_VERSION_MAP})
endif()

# A sanitizer's runtime is in the program, so a sanitized library leaves its symbols open.
check_linker_flag(CXX "-Wl,--no-undefined" FT_HAS_NO_UNDEFINED)
if(FT_HAS_NO_UNDEFINED AND NOT FT_SANITIZE)
  target_link_options(ft PRIVATE "LINKER:--no-undefined")
endif()

# An installed library has the usual three names (libft.so -> libft.so.0 -> libft.so.0.1.0). A wheel cannot hold
# symbolic links, so there the one file libft.so serves the linker, the loader and dlopen alike; should the ABI ever
# change, the version map's FT_0 still keeps an old program from binding to it.
if(NOT SKBUILD)
  set_target_properties(ft PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
endif()
