// Agents on AWS's SDK for TypeScript, one a process, from the folder of the SDK:
//   PORT=… node agents.mjs returning|streaming
import { BedrockAgentCoreApp } from 'bedrock-agentcore/runtime'

const AGENTS = {
  returning: async ({ prompt }) => ({ response: prompt }),
  streaming: async function* ({ prompt }) {
    yield { message: 'Comparing quotes' }
    yield { response: prompt }
  },
}
const app = new BedrockAgentCoreApp({ invocationHandler: { process: AGENTS[process.argv[2]] }, config: { logging: { enabled: false } } })
app.run({ port: Number(process.env.PORT), host: '127.0.0.1' })
