# The CPU kernels in isa/ and gemm/ are compiled once per instruction set, each into a namespace of its own; the best
# level that the processor has is chosen at run time (backends/cpu/isa_level.h).
#
# The order below matters. Inline functions and templates that several levels instantiate are merged by the linker,
# which keeps the first copy it meets: lowest level first means the kept copy runs on every processor that needs it.
file(GLOB FT_ISA_SOURCES CONFIGURE_DEPENDS libft/backends/cpu/isa/*.cc libft/backends/cpu/gemm/*.cc)

set(FT_ISA_LEVELS_HERE portable)
set(FT_ISA_FLAGS_portable "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND FT_ISA_LEVELS_HERE avx2 avx512 avx512_bf16)
  set(FT_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c)
  set(FT_ISA_FLAGS_avx512 ${FT_ISA_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
  set(FT_ISA_FLAGS_avx512_bf16 ${FT_ISA_FLAGS_avx512} -mavx512bf16 -mavx512vnni)
endif()
set(FT_ISA_LEVELS "${FT_ISA_LEVELS_HERE}" CACHE STRING "Levels of CPU kernels to build, lowest first; portable is needed")
foreach(level IN LISTS FT_ISA_LEVELS)
  if(NOT level IN_LIST FT_ISA_LEVELS_HERE)
    message(FATAL_ERROR "FT_ISA_LEVELS names '${level}', which is none of ${FT_ISA_LEVELS_HERE}")
  endif()
endforeach()
if(NOT "portable" IN_LIST FT_ISA_LEVELS)
  message(FATAL_ERROR "FT_ISA_LEVELS lacks 'portable', which every processor needs")
endif()

# What was built, for the code that chooses among the levels: FT_FOR_EACH_BUILT_LEVEL(X) is X(portable) X(avx2) ...
list(TRANSFORM FT_ISA_LEVELS REPLACE "(.+)" "X(\\1)" OUTPUT_VARIABLE FT_BUILT_LEVELS)
list(JOIN FT_BUILT_LEVELS " " FT_BUILT_LEVELS)
file(CONFIGURE OUTPUT generated/built_levels.h CONTENT "#define FT_FOR_EACH_BUILT_LEVEL(X) @FT_BUILT_LEVELS@\n" @ONLY)
target_include_directories(ft_common INTERFACE $<BUILD_INTERFACE:${CMAKE_CURRENT_BINARY_DIR}/generated>)

set(FT_ISA_OBJECTS "")
foreach(level IN LISTS FT_ISA_LEVELS)
  add_library(ft_isa_${level} OBJECT ${FT_ISA_SOURCES})
  target_compile_options(ft_isa_${level} PRIVATE ${FT_ISA_FLAGS_${level}} ${FT_KERNEL_OPTIMIZATION} -ffp-contract=off)
  target_compile_definitions(ft_isa_${level} PRIVATE FT_ISA=${level} FT_ISA_${level}=1)
  target_link_libraries(ft_isa_${level} PRIVATE ft_common)
  list(APPEND FT_ISA_OBJECTS $<TARGET_OBJECTS:ft_isa_${level}>)
endforeach()
