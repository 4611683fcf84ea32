# The CPU kernels in isa/ and gemm/ are compiled once per instruction set, each into a namespace of its own; the best
# level that the processor has is chosen at run time (backends/cpu/isa_level.h).
#
# The order below matters. Inline functions and templates that several levels instantiate are merged by the linker,
# which keeps the first copy it meets: lowest level first means the kept copy runs on every processor that needs it.
file(GLOB FT_ISA_SOURCES CONFIGURE_DEPENDS libft/backends/cpu/isa/*.cc libft/backends/cpu/gemm/*.cc)

set(FT_ISA_LEVELS portable)
set(FT_ISA_FLAGS_portable "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND FT_ISA_LEVELS avx2 avx512 avx512_bf16)
  set(FT_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c)
  set(FT_ISA_FLAGS_avx512 ${FT_ISA_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
  set(FT_ISA_FLAGS_avx512_bf16 ${FT_ISA_FLAGS_avx512} -mavx512bf16 -mavx512vnni)
endif()

set(FT_ISA_OBJECTS "")
foreach(level IN LISTS FT_ISA_LEVELS)
  add_library(ft_isa_${level} OBJECT ${FT_ISA_SOURCES})
  target_compile_options(ft_isa_${level} PRIVATE ${FT_ISA_FLAGS_${level}} -O3 -ffp-contract=off)
  target_compile_definitions(ft_isa_${level} PRIVATE FT_ISA=${level} FT_ISA_${level}=1)
  target_link_libraries(ft_isa_${level} PRIVATE ft_common)
  list(APPEND FT_ISA_OBJECTS $<TARGET_OBJECTS:ft_isa_${level}>)
endforeach()
