//! Rules on what belongs to no function: memory, processors, tasks.

use super::Blamed::Host;
use super::Piece::{Any, Count, Number, OneOf, Subject, Text, Word};
use super::{Rule, Topic, Weight};

/// What most of these are about.
const PLAIN: Rule = Rule {
    topic: Topic::MachineChecks,
    ..super::PLAIN
};

const EDAC: &str = "drivers/edac/edac_mc.c";
const MCE_AMD: &str = "drivers/edac/mce_amd.c";

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "memory_uncorrectable",
        weight: Weight::Fatal,
        // A driver of EDAC is told of what the banks still held when the host booted (`mce_register_decode_chain`).
        left_over: true,
        patterns: &[&[
            Text("EDAC MC"),
            Number,
            Text(": "),
            Count,
            Text(" UE "),
            Any,
            Text(" on "),
            Subject,
            Text(" ("),
        ]],
        why: "a memory module lost data",
        printed_by: EDAC,
        examples: &[(
            "EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x7740c0)",
            Host,
        )],
        counter_example: "EDAC MC0: 2 CE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0)",
        ..PLAIN
    },
    Rule {
        name: "memory_corrected",
        weight: Weight::Counted,
        patterns: &[&[
            Text("EDAC MC"),
            Number,
            Text(": "),
            Count,
            Text(" CE "),
            Any,
            Text(" on "),
            Subject,
            Text(" ("),
        ]],
        why: "a memory module corrects errors",
        printed_by: EDAC,
        examples: &[(
            "EDAC MC0: 2 CE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x7740c0)",
            Host,
        )],
        counter_example: "EDAC MC0: Giving out device to module skx_edac controller Skylake Socket#0 IMC#0",
        ..PLAIN
    },
    Rule {
        name: "machine_check_uncorrected",
        weight: Weight::Fatal,
        // The banks outlive a reset, and what they hold is logged early in the next boot (`__mcheck_cpu_init_generic`).
        left_over: true,
        patterns: &[&[
            Text("[Hardware Error]: "),
            OneOf(&[
                "Uncorrected, software restartable error.",
                "Uncorrected, software containable error.",
                "System Fatal error.",
            ]),
        ]],
        why: "a processor met data that could not be corrected",
        printed_by: MCE_AMD,
        examples: &[(
            "[Hardware Error]: Uncorrected, software restartable error.",
            Host,
        )],
        counter_example: "[Hardware Error]: Corrected error, no action required.",
        ..PLAIN
    },
    Rule {
        name: "machine_check_in_process",
        weight: Weight::Fatal,
        patterns: &[&[Text(
            "mce: Uncorrected hardware memory error in user-access at ",
        )]],
        // A process of this boot ran into it, so it is left over from no other.
        why: "a process read memory that could not be corrected",
        printed_by: "arch/x86/kernel/cpu/mce/core.c",
        examples: &[(
            "mce: Uncorrected hardware memory error in user-access at 8a398a400",
            Host,
        )],
        counter_example: "mce: [Hardware Error]: Machine check events logged",
        ..PLAIN
    },
    Rule {
        name: "machine_check_deferred",
        weight: Weight::Serious,
        patterns: &[&[Text(
            "[Hardware Error]: Deferred error, no action required.",
        )]],
        why: "data was lost that nobody has asked for yet",
        printed_by: MCE_AMD,
        examples: &[(
            "[Hardware Error]: Deferred error, no action required.",
            Host,
        )],
        counter_example: "[Hardware Error]: Corrected error, no action required.",
        ..PLAIN
    },
    Rule {
        name: "machine_check",
        patterns: &[&[Text("mce: [Hardware Error]: Machine check events logged")]],
        why: "processors or memory report something; rasdaemon knows what",
        printed_by: "arch/x86/kernel/cpu/mce/core.c",
        examples: &[("mce: [Hardware Error]: Machine check events logged", Host)],
        counter_example: "mce: CPU0: Thermal monitoring enabled (TM1)",
        ..PLAIN
    },
    Rule {
        name: "memory_page_lost",
        weight: Weight::Serious,
        patterns: &[&[
            Text("Memory failure: "),
            Word,
            Text(" recovery action for "),
            Any,
            Text(": "),
            OneOf(&["Recovered", "Failed", "Ignored", "Delayed"]),
        ]],
        why: "a page of memory was taken out of use, with what was in it",
        printed_by: "mm/memory-failure.c",
        examples: &[(
            "Memory failure: 0x7740c0: recovery action for dirty page: Recovered",
            Host,
        )],
        counter_example: "Memory failure: 0x8a398a: already hardware poisoned",
        ..PLAIN
    },
    Rule {
        name: "hung_task",
        topic: Topic::Stalls,
        weight: Weight::Serious,
        patterns: &[&[
            Text("INFO: task "),
            Subject,
            Text(" blocked for more than "),
            Number,
            Text(" seconds."),
        ]],
        why: "a task waits in the kernel and cannot be killed",
        printed_by: "kernel/hung_task.c",
        examples: &[(
            "INFO: task kworker/u8:1:42 blocked for more than 122 seconds.",
            Host,
        )],
        counter_example: "INFO: task kworker/u8:1:42 is blocked on a mutex likely owned by task kworker/u8:2:43.",
        ..PLAIN
    },
    Rule {
        name: "soft_lockup",
        topic: Topic::Stalls,
        weight: Weight::Serious,
        patterns: &[&[
            Text("watchdog: BUG: soft lockup - "),
            Subject,
            Text(" stuck for "),
        ]],
        why: "a processor did nothing but one thing in the kernel",
        printed_by: "kernel/watchdog.c",
        examples: &[(
            "watchdog: BUG: soft lockup - CPU#89 stuck for 22s! [uperf:5547]",
            Host,
        )],
        counter_example: "watchdog: Delayed init of the lockup detector failed: -19",
        ..PLAIN
    },
    Rule {
        name: "rcu_stall",
        topic: Topic::Stalls,
        weight: Weight::Serious,
        patterns: &[&[
            Text("rcu: INFO: "),
            Word,
            Text(" "),
            OneOf(&[
                "detected stalls on CPUs/tasks:",
                "self-detected stall on CPU",
            ]),
        ]],
        why: "a processor or a task holds up the kernel",
        printed_by: "kernel/rcu/tree_stall.h",
        examples: &[
            (
                "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
                Host,
            ),
            ("rcu: INFO: rcu_sched self-detected stall on CPU", Host),
        ],
        counter_example: "rcu: Hierarchical SRCU implementation.",
        ..PLAIN
    },
    Rule {
        name: "out_of_memory",
        topic: Topic::OutOfMemory,
        weight: Weight::Counted,
        patterns: &[&[
            Text("Out of memory: Killed process "),
            Subject,
            Text(" total-vm:"),
        ]],
        why: "the host had no memory left, and a process was killed for it",
        printed_by: "mm/oom_kill.c",
        examples: &[(
            "Out of memory: Killed process 2811 (java) total-vm:16420540kB, anon-rss:13951040kB, file-rss:4528kB, shmem-rss:0kB, \
             UID:1000 pgtables:32100kB oom_score_adj:0",
            Host,
        )],
        counter_example: "Out of memory and no killable processes...",
        ..PLAIN
    },
    Rule {
        name: "job_out_of_memory",
        topic: Topic::OutOfMemory,
        patterns: &[&[
            Text("Memory cgroup out of memory: Killed process "),
            Subject,
            Text(" total-vm:"),
        ]],
        why: "a job used more memory than it was given, and was killed for it",
        printed_by: "mm/oom_kill.c",
        examples: &[(
            "Memory cgroup out of memory: Killed process 23793 (leaker) total-vm:2623712kB, anon-rss:506500kB, file-rss:1268kB, \
             shmem-rss:0kB",
            Host,
        )],
        counter_example: "oom_reaper: reaped process 23793 (leaker), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
        ..PLAIN
    },
];
