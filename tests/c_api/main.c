/*
 * Runs the C API's tests: `c_api [filter]` runs those whose names contain the filter. Ends with status 77, which ctest
 * takes for skipped, when FT_CPU_ISA names an instruction set that this processor lacks.
 */
#include "harness.h"

#define TESTS(X)               \
    X(status_names)            \
    X(messages_stay)           \
    X(messages_are_per_thread) \
    X(tensor_misuse)           \
    X(tensor_wrap)             \
    X(tensor_create)           \
    X(tensor_dlpack)           \
    X(devices)                 \
    X(checkpoint_misuse)       \
    X(checkpoint_faults)       \
    X(checkpoint_tensors)      \
    X(checkpoint_metadata)     \
    X(model_misuse)            \
    X(model_queries)           \
    X(models_on_ranks)         \
    X(model_progress)          \
    X(allocator)               \
    X(allocator_recovers)      \
    X(placing_misuse)          \
    X(tensor_elsewhere)        \
    X(forward_misuse)          \
    X(forward_shapes)          \
    X(forward_bert)            \
    X(forward_padding)         \
    X(forward_llama)           \
    X(forward_embeddings)      \
    X(session_misuse)          \
    X(submit_values)           \
    X(generation)              \
    X(tokens_from)             \
    X(generation_callbacks)    \
    X(generation_cancel)       \
    X(steering_bans)           \
    X(steering_samples)        \
    X(steering_order)          \
    X(steering_cancels)        \
    X(soft_prompts)            \
    X(prompt_logprobs)         \
    X(prefix_cache)            \
    X(generation_limits)       \
    X(translation)             \
    X(forward_both_sides)      \
    X(convert_misuse)          \
    X(convert_destinations)    \
    X(convert_and_load)        \
    X(struct_first_sizes)      \
    X(struct_sizes_in)         \
    X(struct_sizes_out)        \
    X(closing_model_first)     \
    X(closing_session_first)   \
    X(closing_every_order)     \
    X(closing_tensors_last)    \
    X(threads_one_session)     \
    X(threads_step_and_poll)   \
    X(threads_models)          \
    X(threads_share_tensor)    \
    X(forked_child)

#define DECLARE(name) void test_##name(void);
TESTS(DECLARE)

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
#define ENTRY(name) {#name, test_##name},
        TESTS(ENTRY)};
    ft_device_info cpu = FT_DEVICE_INFO_INIT;
    if (ft_device_get(&cpu, 0) == FT_ERROR_UNSUPPORTED) {
        printf("skipped: %s\n", ft_last_error());
        return 77;
    }
    int passed = 0, failed = 0;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; ++i) {
        if (argc > 1 && !strstr(tests[i].name, argv[1])) continue;
        int before = atomic_load(&failed_checks);
        tests[i].run();
        if (atomic_load(&failed_checks) == before) {
            ++passed;
        } else {
            ++failed;
            printf("FAILED %s\n", tests[i].name);
        }
        fflush(stdout);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed;
}
