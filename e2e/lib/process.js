// Process statistics, read from /proc.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { PATIENCE } from "./patience.js";

/** Current memory in bytes */
export const memory = (pid) => statusBytes(pid, "VmRSS");

/** Peak memory in bytes since `forgetPeak` */
export const peakMemory = (pid) => statusBytes(pid, "VmHWM");

/** Resets the peak; without that permission it is unchanged */
export function forgetPeak(pid) {
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
}

/** Number of open descriptors */
export const descriptors = (pid) => readdirSync(`/proc/${pid}/fd`).length;

/** Number of threads */
export const threads = (pid) => readdirSync(`/proc/${pid}/task`).length;

/** CPU time since the process started, in milliseconds, in steps of 10 */
export function processorTime(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  // The name in parentheses may have spaces; user and system time are the 14th and 15th field.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
}

/**
 * Time that the machine withheld, in milliseconds: time in which these processes or the calling thread were runnable
 * but not running, and time stolen by the host
 */
export function withheld(...pids) {
  return pids.reduce((sum, pid) => sum + starvation(pid), stolen() + threadStarvation("/proc/thread-self"));
}

/** Time in which its threads were runnable but not running, in milliseconds */
export function starvation(pid) {
  try {
    const threads = readdirSync(`/proc/${pid}/task`);
    return threads.reduce((sum, id) => sum + threadStarvation(`/proc/${pid}/task/${id}`), 0);
  } catch {
    return 0; // The process has exited.
  }
}

function threadStarvation(folder) {
  try {
    return Number(readFileSync(`${folder}/schedstat`, "latin1").split(" ")[1]) / 1e6;
  } catch {
    return 0; // The process has exited, or the system has no such file.
  }
}

function stolen() {
  try {
    const [all] = readFileSync("/proc/stat", "latin1").split("\n");
    return (Number(all.trim().split(/\s+/)[8]) || 0) * MS_PER_TICK;
  } catch {
    return 0; // There is no /proc.
  }
}

/**
 * Waits until a process has handled all input: none of its threads runs
 * or is runnable.
 *
 * Orders the actions of a test over several connections. A pause of some milliseconds would
 * not suffice: on a busy machine the process may not run in that time.
 */
export async function settled(pid) {
  // Other systems have no /proc.
  if (!existsSync(`/proc/${pid}/task`)) return sleep(100);
  const deadline = Date.now() + PATIENCE;
  // Writes of this program are sent within a turn or two of its event loop, so one check is not enough.
  for (let looks = 0; looks < 3 && Date.now() < deadline; looks = isAtRest(pid) ? looks + 1 : 0) await sleep(5);
}

function isAtRest(pid) {
  try {
    const threads = readdirSync(`/proc/${pid}/task`).map((id) => readFileSync(`/proc/${pid}/task/${id}/stat`, "latin1"));
    // State after the name in parentheses: running, runnable, or waiting for a disk.
    return threads.every((stat) => !/^[RD]/.test(stat.slice(stat.lastIndexOf(")") + 2)));
  } catch {
    return false; // A thread has exited between two reads.
  }
}

function statusBytes(pid, name) {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)[1]) * 1024;
}

const MS_PER_TICK = 10;
