// What the system knows of a process, read from /proc.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

/** Bytes of memory in use now */
export const memory = (pid) => statusBytes(pid, "VmRSS");

/** The most bytes of memory since `forgetPeak` */
export const peakMemory = (pid) => statusBytes(pid, "VmHWM");

/** Lets the peak begin anew; without that permission it stays what it was */
export function forgetPeak(pid) {
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
}

/** How many descriptors are open */
export const descriptors = (pid) => readdirSync(`/proc/${pid}/fd`).length;

/** How many threads there are */
export const threads = (pid) => readdirSync(`/proc/${pid}/task`).length;

/** Milliseconds of processor time since the process began, in steps of 10 */
export function processorTime(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  // The name in brackets may have spaces; user and system time are the 14th and 15th field.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
}

/** Milliseconds for which the main thread could have run and was not let, because others had the processors */
export function starvation(pid) {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, "latin1").split(" ")[1]) / 1e6;
  } catch {
    return 0; // It has ended.
  }
}

function statusBytes(pid, name) {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)[1]) * 1024;
}

const MS_PER_TICK = 10;
