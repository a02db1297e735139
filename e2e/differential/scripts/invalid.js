import { each } from "../script.js";

export const subject = "what is no packet";

const hole = (num) => `{"_placeholder":true,"num":${num}}`;
const part = Buffer.from([1, 2, 3]);

const PACKETS = [
  ["no packet type", ["4"]],
  ["a letter for a type", ["4abc"]],
  ["an unknown type", ["47[]"]],
  ["an event of an object", ["42{}"]],
  ["an event of a string", ['42"echo"']],
  ["an event of an empty list", ["42[]"]],
  ["an event of nothing", ["42"]],
  ["an event of nothing, in a namespace", ["42/other,"]],
  ["garbage before the list", ['42abc["echo"]']],
  ["garbage behind the list", ['42["echo"]abc']],
  ["broken JSON", ['42["echo"']],
  ["a name that is an object", ["42[{}]"]],
  ["a name that is a list", ["42[[]]"]],
  ["a name that is null", ["42[null]"]],
  ["a name that is true", ["42[true]"]],
  ["a negative number for an ack", ['42-1["echo"]']],
  ["a fraction for an ack", ['421.5["echo"]']],
  ["a space before the list", ['42 ["echo"]']],
  ["a line break behind the list", ['42["echo",1]\n']],
  ["an ack of an object", ["431{}"]],
  ["an ack of a string", ['431"x"']],
  ["an ack of nothing", ["431"]],
  ["an ack without a number", ["43[1]"]],
  ["a DISCONNECT with a payload", ['41["bye"]']],
  ["a DISCONNECT with an object", ["41{}"]],
  ["a CONNECT with a list", ["40/other,[]"]],
  ["a CONNECT with a string", ['40/other,"x"']],
  ["a CONNECT with null", ["40/other,null"]],
  ["a CONNECT with true", ["40/other,true"]],
  ["a CONNECT with broken JSON", ['40/other,{"a":']],
  ["a CONNECT_ERROR with nothing", ["44"]],
  ["a CONNECT_ERROR with a string", ['44"no"']],
  ["a namespace behind its payload", ['42["echo"]/other,']],
  ...["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"].map((name) => [
    `an event called ${name}`,
    [`42["${name}"]`],
  ]),
  ["bytes that nothing announced", [part]],
  ["text where bytes are due", [`451-["echo",${hole(0)}]`, '42["echo","x"]']],
  ["text where the second bytes are due", [`452-["echo",${hole(0)},${hole(1)}]`, part, '42["echo","x"]']],
  ["another namespace where bytes are due", [`451-["echo",${hole(0)}]`, "40/other,"]],
  ["one attachment too many", [`451-["unheard of",${hole(0)}]`, part, part]],
  ["a place beyond what came", [`451-["echo",${hole(1)}]`, part]],
  ["a place below zero", [`451-["echo",${hole(-1)}]`, part]],
  ["a place that is a fraction", [`451-["echo",${hole(0.5)}]`, part]],
  ["a place that is a string", [`451-["echo",${hole('"0"')}]`, part]],
  ["a place that is missing", ['451-["echo",{"_placeholder":true}]', part]],
  ["no count of attachments", ['45-["echo"]']],
  ["no count and no dash", ['45["echo"]']],
  ["a count that is no number", ['45a-["echo"]']],
  ["a count that is a fraction", ['451.5-["echo"]']],
  ["a count below zero", ['45-1-["echo"]']],
  ["a count of zero", ['450-["echo","x"]']],
  ["a count with a zero before it", [`4501-["echo",${hole(0)}]`, part]],
  ["a count of eleven", [`4511-["echo",${hole(0)}]`]],
  ["a count beyond any number", ['4599999999999999999999-["echo"]']],
  ["a binary event of an object", [`451-{"echo":${hole(0)}}`, part]],
  ["a binary event called disconnect", [`451-["disconnect",${hole(0)}]`, part]],
  ["a binary ack of an object", ["461-1{}", part]],
  ["a binary event named by bytes", [`451-[${hole(0)}]`, part]],
];

export const scripts = PACKETS.map(([what, packets]) =>
  each(what, async (stage) => {
    const peer = await stage.join("a");
    await peer.send(...packets, '42["echo","still here"]');
    peer.lineOf(await peer.take());
    if (peer.lines.at(-1).includes("closed")) await stage.noted(3);
  }),
);
