# Each benchmarks/*.cc is a program of its own.
file(GLOB FT_BENCHMARKS CONFIGURE_DEPENDS benchmarks/*.cc)
foreach(source IN LISTS FT_BENCHMARKS)
  cmake_path(GET source STEM program)
  add_executable(${program} ${source})
  target_link_libraries(${program} PRIVATE ft_static)
endforeach()
