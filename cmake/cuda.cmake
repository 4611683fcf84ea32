# The CUDA backend: libft_cuda.so, which libft opens at run time where it lies beside it. FT_CUDA=AUTO builds it on a
# machine that can run it: nvcc, cuBLASLt's header and NVIDIA's driver are there. ON wants the first two alone.
set(FT_CUDA AUTO CACHE STRING "Build the CUDA plug-in: ON, OFF or AUTO")
set(FT_CUDA_ARCHITECTURES "75-real;80-real;86-real;89-real;90a-real;100-virtual" CACHE STRING
  "GPU architectures of the CUDA plug-in, as CMAKE_CUDA_ARCHITECTURES; 90a-real alone builds quickly")
if(NOT FT_CUDA)
  return()
endif()

find_program(FT_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME /usr/local/cuda PATH_SUFFIXES bin)

# cuBLASLt's header comes with the toolkit, or with the PyPI wheel nvidia-cublas.
set(FT_CUBLAS_HINT "")
find_package(Python3 QUIET COMPONENTS Interpreter)
if(Python3_FOUND)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -c "import nvidia; print(*nvidia.__path__, sep=';')"
    OUTPUT_VARIABLE FT_CUBLAS_HINT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
find_path(FT_CUBLAS_INCLUDE_DIR cublasLt.h HINTS ${FT_CUBLAS_HINT} /usr/local/cuda
  PATH_SUFFIXES include cu13/include cu12/include cublas/include)

if(FT_CUDA STREQUAL "AUTO" AND NOT (FT_NVCC AND FT_CUBLAS_INCLUDE_DIR AND EXISTS /proc/driver/nvidia))
  return()
endif()
if(NOT FT_NVCC)
  message(FATAL_ERROR "FT_CUDA=ON needs nvcc of the CUDA toolkit 12.4 or newer; put it on the PATH or set CUDACXX")
endif()
if(NOT FT_CUBLAS_INCLUDE_DIR)
  message(FATAL_ERROR "FT_CUDA=ON needs cublasLt.h: `pip install nvidia-cublas`, or set FT_CUBLAS_INCLUDE_DIR to its folder")
endif()

set(CMAKE_CUDA_COMPILER ${FT_NVCC} CACHE FILEPATH "nvcc")
set(CMAKE_CUDA_ARCHITECTURES ${FT_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(CMAKE_CUDA_STANDARD 17)  # CMake tries the compiler with this
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_EXTENSIONS OFF)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # before 3.26 CMake does not know that nvcc has it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
endif()
find_package(CUDAToolkit 12.4 REQUIRED)

# Sources are found by folder; what the plug-in shares with libft it has compiled in.
file(GLOB_RECURSE FT_CUDA_SOURCES CONFIGURE_DEPENDS libft/backends/cuda/*.cc libft/backends/cuda/*.cu)
add_library(ft_cuda_objects OBJECT ${FT_CUDA_SOURCES} ${FT_BUILD_ID_SOURCE}
  libft/core/dtype.cc libft/core/memory.cc libft/core/thread_pool.cc libft/ops/gguf_blocks.cc libft/ops/weight_format.cc)
add_dependencies(ft_cuda_objects ft_build_id)
target_link_libraries(ft_cuda_objects PRIVATE CUDA::cudart_static)
target_include_directories(ft_cuda_objects PRIVATE
  ${CMAKE_CURRENT_SOURCE_DIR}/include ${CMAKE_CURRENT_SOURCE_DIR}/libft)
target_include_directories(ft_cuda_objects SYSTEM PRIVATE ${FT_CUBLAS_INCLUDE_DIR})
target_compile_options(ft_cuda_objects PRIVATE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-missing-field-initializers>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall --expt-relaxed-constexpr --extended-lambda>)

add_library(ft_cuda SHARED $<TARGET_OBJECTS:ft_cuda_objects>)
target_link_libraries(ft_cuda PRIVATE CUDA::cudart_static Threads::Threads ${CMAKE_DL_LIBS})
target_link_options(ft_cuda PRIVATE "LINKER:--exclude-libs,ALL" "LINKER:-z,defs")
install(TARGETS ft_cuda COMPONENT library LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
