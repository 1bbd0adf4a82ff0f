// Agents on AWS's SDK for TypeScript: plain ones, Strands, and the Vercel AI SDK. See record.py.
//   node of_typescript.mjs <folder>
import { mkdirSync, writeFileSync } from 'node:fs'
import { BedrockAgentCoreApp } from 'bedrock-agentcore/runtime'
import { Agent, FunctionTool, Model } from '@strands-agents/sdk'
import { generateText, simulateReadableStream, stepCountIs, streamText, tool } from 'ai'
import { MockLanguageModelV3 } from 'ai/test'
import { z } from 'zod'

const SEARCHING = 'Let me look for landscapers.'
const ANSWER = "I've e-mailed Green Fern and Dogwood Care. Both can come on Friday."
const FOUND = 'Green Fern and Dogwood Care work in Charlotte.'
const QUESTION = 'May I book Green Fern for $240?'
const pieces = (text) => text.match(/\s*\S+(?:\s+\S+)?/g) ?? []
const OBJECT = { response: ANSWER, vendors: [{ id: 'v1', name: 'Green Fern' }] }

// --- Strands -----------------------------------------------------------------------------------
class Scripted extends Model {
  constructor(...turns) { super(); this.turns = turns; this.config = { modelId: 'fake' } }
  updateConfig() {}
  getConfig() { return this.config }
  async *stream() {
    const turn = this.turns.shift()
    if (turn instanceof Error) throw turn
    const [text, calls] = turn
    yield { type: 'modelMessageStartEvent', role: 'assistant' }
    if (text) {
      yield { type: 'modelContentBlockStartEvent' }
      for (const piece of pieces(text)) yield { type: 'modelContentBlockDeltaEvent', delta: { type: 'textDelta', text: piece } }
      yield { type: 'modelContentBlockStopEvent' }
    }
    for (const [name, input] of calls) {
      yield { type: 'modelContentBlockStartEvent', start: { type: 'toolUseStart', name, toolUseId: `c${name}` } }
      yield { type: 'modelContentBlockDeltaEvent', delta: { type: 'toolUseInputDelta', input: JSON.stringify(input) } }
      yield { type: 'modelContentBlockStopEvent' }
    }
    yield { type: 'modelMessageStopEvent', stopReason: calls.length ? 'toolUse' : 'endTurn' }
    yield { type: 'modelMetadataEvent', usage: { inputTokens: 1, outputTokens: 1, totalTokens: 2 } }
  }
}
const findVendors = new FunctionTool({ name: 'find_vendors', description: 'Finds', inputSchema: { type: 'object' }, callback: () => FOUND })
const book = new FunctionTool({ name: 'book', description: 'Books', inputSchema: { type: 'object' }, callback: (_, context) => String(context.interrupt({ name: 'approval', reason: QUESTION })) })
const TURNS = [[SEARCHING, [['find_vendors', { city: 'Charlotte' }]]], [ANSWER, []]]
const strands = (...turns) => new Agent({ model: new Scripted(...(turns.length ? turns : TURNS)), tools: [findVendors, book], printer: false })
const ASKING = [SEARCHING, [['book', { vendor: 'Green Fern' }]]]

// --- Vercel ------------------------------------------------------------------------------------
const usage = { inputTokens: { total: 1 }, outputTokens: { total: 1 } }
const part = ([text, calls]) => [
  ...(text ? [{ type: 'text', text }] : []),
  ...calls.map(([toolName, input]) => ({ type: 'tool-call', toolCallId: `c${toolName}`, toolName, input: JSON.stringify(input) })),
]
function model(turns = TURNS) {
  const left = [...turns]
  const next = () => { const turn = left.shift(); if (turn instanceof Error) throw turn; return turn }
  const reason = (turn) => ({ unified: turn[1].length ? 'tool-calls' : 'stop', raw: undefined })
  return new MockLanguageModelV3({
    doGenerate: async () => { const turn = next(); return { content: part(turn), finishReason: reason(turn), usage, warnings: [] } },
    doStream: async () => {
      const turn = next()
      const chunks = [
        { type: 'stream-start', warnings: [] },
        { type: 'text-start', id: '1' },
        ...pieces(turn[0]).map((delta) => ({ type: 'text-delta', id: '1', delta })),
        { type: 'text-end', id: '1' },
        ...part(['', turn[1]]),
        { type: 'finish', finishReason: reason(turn), usage },
      ]
      return { stream: simulateReadableStream({ chunks, initialDelayInMs: null, chunkDelayInMs: null }) }
    },
  })
}
const tools = { find_vendors: tool({ description: 'Finds', inputSchema: z.object({ city: z.string() }), execute: async () => FOUND }) }
const vercel = (turns) => ({ model: model(turns), tools, prompt: 'Find', stopWhen: stepCountIs(5), onError: () => {} })
const FAILING = [TURNS[0], new Error('The model is on strike.')]
async function* body(response) {
  const decoder = new TextDecoder()
  for await (const bytes of response.body) yield decoder.decode(bytes)
}

const AGENTS = {
  'return string': async () => ANSWER,
  'return object': async () => OBJECT,
  'return {text}': async () => ({ text: ANSWER }),
  'return failing': async () => { throw new Error('The model is on strike.') },
  'yield strings': async function* () { yield* pieces(SEARCHING); yield* pieces(ANSWER) },
  'yield strings with numbers': async function* () { yield* ['3', ' vendors', ' ask', ' about', ' $', '240', '.', '\n\n', 'Shall I', '\n', 'book?'] },
  'yield objects': async function* () { yield { message: SEARCHING }; yield OBJECT },
  'yield data objects': async function* () { for (const data of pieces(ANSWER)) yield { event: 'message', data: { text: data } } },
  'yield typed objects': async function* () { for (const content of pieces(ANSWER)) yield { type: 'content', content }; yield { type: 'done' } },
  'yield failing': async function* () { yield* pieces(SEARCHING); throw new Error('The model is on strike.') },
  'yield JSON as text': async function* () { yield* JSON.stringify(OBJECT).match(/.{1,9}/g) },
  'Strands, return result': () => strands().invoke('Find'),
  'Strands, return String(result)': async () => String(await strands().invoke('Find')),
  'Strands, return lastMessage': async () => (await strands().invoke('Find')).lastMessage,
  'Strands, return {response}': async () => ({ response: String(await strands().invoke('Find')) }),
  'Strands, return result, interrupt': () => strands(ASKING).invoke('Find'),
  'Strands, return String(result), interrupt': async () => String(await strands(ASKING).invoke('Find')),
  'Strands, yield events': async function* () { yield* strands().stream('Find') },
  'Strands, yield events, interrupt': async function* () { yield* strands(ASKING).stream('Find') },
  'Strands, yield events, failing': async function* () { yield* strands(...FAILING).stream('Find') },
  'Strands, yield deltas': async function* () {
    for await (const event of strands().stream('Find'))
      if (event.type === 'modelStreamUpdateEvent' && event.event.type === 'modelContentBlockDeltaEvent' && event.event.delta.type === 'textDelta') yield { event: 'message', data: { text: event.event.delta.text } }
  },
  'Strands, yield delta strings': async function* () {
    for await (const event of strands().stream('Find'))
      if (event.type === 'modelStreamUpdateEvent' && event.event.type === 'modelContentBlockDeltaEvent' && event.event.delta.type === 'textDelta') yield event.event.delta.text
  },
  'Vercel, return text': async () => (await generateText(vercel())).text,
  'Vercel, return {text, steps}': async () => { const { text, steps, usage } = await generateText(vercel()); return { text, steps, usage } },
  'Vercel, return response.messages': async () => (await generateText(vercel())).response.messages,
  'Vercel, yield textStream': async function* () { yield* streamText(vercel()).textStream },
  'Vercel, yield fullStream': async function* () { yield* streamText(vercel()).fullStream },
  'Vercel, yield fullStream, failing': async function* () { yield* streamText(vercel(FAILING)).fullStream },
  'Vercel, yield UI messages': async function* () { yield* streamText(vercel()).toUIMessageStream() },
  'Vercel, yield UI messages, failing': async function* () { yield* streamText(vercel(FAILING)).toUIMessageStream() },
  'Vercel, yield UI response': async function* () { yield* body(streamText(vercel()).toUIMessageStreamResponse()) },
}

const folder = process.argv[2]
mkdirSync(folder, { recursive: true })
const headers = {
  'content-type': 'application/json',
  accept: 'text/event-stream, application/json',
  'x-amzn-bedrock-agentcore-runtime-session-id': 's'.repeat(40),
}
const payload = { prompt: 'Find me a landscaper in Charlotte', task_id: 't-1' }
for (const [number, handler] of Object.values(AGENTS).entries()) {
  const app = new BedrockAgentCoreApp({ invocationHandler: { process: handler }, config: { logging: { enabled: false } } })
  // What run() does before it listens.
  await app._registerPlugins()
  app._setupRoutes()
  const answer = await app._app.inject({ method: 'POST', url: '/invocations', headers, payload })
  writeFileSync(`${folder}/${number}`, `${answer.statusCode} ${answer.headers['content-type']}\n\n${answer.payload}`)
}
writeFileSync(`${folder}/names.json`, JSON.stringify(Object.keys(AGENTS)))
process.exit(0)
