import { each } from "../script.js";

export const subject = "invalid packets";

const hole = (num) => `{"_placeholder":true,"num":${num}}`;
const part = Buffer.from([1, 2, 3]);

const PACKETS = [
  ["no packet type", ["4"]],
  ["a letter as packet type", ["4abc"]],
  ["an unknown type", ["47[]"]],
  ["an event with an object", ["42{}"]],
  ["an event with a string", ['42"echo"']],
  ["an event with an empty list", ["42[]"]],
  ["an event without a payload", ["42"]],
  ["an event without a payload, in a namespace", ["42/other,"]],
  ["garbage before the list", ['42abc["echo"]']],
  ["garbage after the list", ['42["echo"]abc']],
  ["broken JSON", ['42["echo"']],
  ["a name that is an object", ["42[{}]"]],
  ["a name that is a list", ["42[[]]"]],
  ["a name that is null", ["42[null]"]],
  ["a name that is true", ["42[true]"]],
  ["a negative number for an ack", ['42-1["echo"]']],
  ["a fraction for an ack", ['421.5["echo"]']],
  ["a space before the list", ['42 ["echo"]']],
  ["a line break after the list", ['42["echo",1]\n']],
  ["an ack with an object", ["431{}"]],
  ["an ack with a string", ['431"x"']],
  ["an ack without a payload", ["431"]],
  ["an ack without a number", ["43[1]"]],
  ["a DISCONNECT with a payload", ['41["bye"]']],
  ["a DISCONNECT with an object", ["41{}"]],
  ["a CONNECT with a list", ["40/other,[]"]],
  ["a CONNECT with a string", ['40/other,"x"']],
  ["a CONNECT with null", ["40/other,null"]],
  ["a CONNECT with true", ["40/other,true"]],
  ["a CONNECT with broken JSON", ['40/other,{"a":']],
  ["a CONNECT_ERROR without a payload", ["44"]],
  ["a CONNECT_ERROR with a string", ['44"no"']],
  ["a namespace after its payload", ['42["echo"]/other,']],
  ...["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"].map((name) => [
    `an event called ${name}`,
    [`42["${name}"]`],
  ]),
  ["unannounced binary", [part]],
  ["text instead of binary", [`451-["echo",${hole(0)}]`, '42["echo","x"]']],
  ["text instead of the second binary", [`452-["echo",${hole(0)},${hole(1)}]`, part, '42["echo","x"]']],
  ["a packet of another namespace instead of binary", [`451-["echo",${hole(0)}]`, "40/other,"]],
  ["one attachment too many", [`451-["unheard of",${hole(0)}]`, part, part]],
  ["a placeholder beyond the attachments", [`451-["echo",${hole(1)}]`, part]],
  ["a negative placeholder", [`451-["echo",${hole(-1)}]`, part]],
  ["a fractional placeholder", [`451-["echo",${hole(0.5)}]`, part]],
  ["a placeholder with a string", [`451-["echo",${hole('"0"')}]`, part]],
  ["a placeholder without a number", ['451-["echo",{"_placeholder":true}]', part]],
  ["no count of attachments", ['45-["echo"]']],
  ["no count and no dash", ['45["echo"]']],
  ["a count that is not a number", ['45a-["echo"]']],
  ["a fractional count", ['451.5-["echo"]']],
  ["a negative count", ['45-1-["echo"]']],
  ["a count of zero", ['450-["echo","x"]']],
  ["a count with a leading zero", [`4501-["echo",${hole(0)}]`, part]],
  ["a count of eleven", [`4511-["echo",${hole(0)}]`]],
  ["a count beyond any integer", ['4599999999999999999999-["echo"]']],
  ["a binary event with an object", [`451-{"echo":${hole(0)}}`, part]],
  ["a binary event called disconnect", [`451-["disconnect",${hole(0)}]`, part]],
  ["a binary ack with an object", ["461-1{}", part]],
  ["a binary event with a binary name", [`451-[${hole(0)}]`, part]],
];

export const scripts = PACKETS.map(([what, packets]) =>
  each(what, async (stage) => {
    const peer = await stage.join("a");
    await peer.send(...packets, '42["echo","still here"]');
    peer.lineOf(await peer.take());
    if (peer.lines.at(-1).includes("closed")) await stage.noted(3);
  }),
);
